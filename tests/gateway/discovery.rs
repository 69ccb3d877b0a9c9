//! SEARCHGW, GWINFO, ADVERTISE [S 6.1; I-06, I-40].

use std::time::Duration;

use mqtt_sn_gateway::gateway::{GwInfoTo, Input, LinkEvent, LinkId, Settings};
use mqtt_sn_gateway::wire::Packet;

use crate::support::*;

const SEARCH: Packet<'_> = Packet::SearchGw { radius: 2 };
const GWINFO: Packet<'_> = Packet::GwInfo {
    gw_id: 1,
    gw_addr: &[],
};
const ADVERTISE: Packet<'_> = Packet::Advertise {
    gw_id: 1,
    duration: 900,
};
const ALL: &str = "all on 0 radius 0";

fn broadcasting(gwinfo: GwInfoTo) -> Settings {
    let mut settings = settings();
    settings.links[0].can_broadcast = true;
    settings.links[0].gwinfo = gwinfo;
    settings
}

/// Any message from its address is a sign of life (I-34); of these the session did not hear.
#[test]
fn a_connected_node_that_searches_is_alive() {
    let of_seekers = [
        SEARCH,
        ADVERTISE,
        Packet::GwInfo {
            gw_id: 9,
            gw_addr: b"x",
        },
    ];
    for packet in of_seekers {
        let mut t = Bench::new();
        t.connected(A, "n", true);
        t.at(320_000).node(A, packet).discard_sent();
        t.at(600_000).sends([]);
    }
}

#[test]
fn the_asker_is_answered() {
    Bench::new().node(A, SEARCH).sends([(A, GWINFO)]);
}

#[test]
fn gwinfo_goes_where_the_link_wants_it() {
    let all = "all on 0 radius 2";
    let mut t = Bench::with(broadcasting(GwInfoTo::Broadcast));
    t.sends([(ALL, ADVERTISE)]);
    t.node(A, SEARCH).sends([(all, GWINFO)]);
    let mut t = Bench::with(broadcasting(GwInfoTo::Both));
    t.sends([(ALL, ADVERTISE)])
        .node(A, SEARCH)
        .sends([(A, GWINFO), (all, GWINFO)]);
    // A link that cannot broadcast answers all the same.
    let mut settings = broadcasting(GwInfoTo::Broadcast);
    settings.links[0].can_broadcast = false;
    Bench::with(settings).node(A, SEARCH).sends([(A, GWINFO)]);
}

/// Paho puts its keep-alive into the field, EMQX milliseconds.
#[test]
fn advertise_is_in_seconds_and_as_often() {
    let mut settings = broadcasting(GwInfoTo::Unicast);
    settings.links[1].can_broadcast = true;
    let everywhere = [(ALL, ADVERTISE), ("all on 1 radius 0", ADVERTISE)];
    let mut t = Bench::with(settings);
    t.at(0).node(A, Packet::PingResp).sends(everywhere);
    t.at(899_999).sends([]).at(900_000).sends(everywhere);
    t.at(1_800_000).sends(everywhere);
}

#[test]
fn nothing_is_advertised_that_is_not_wanted() {
    let mut settings = broadcasting(GwInfoTo::Unicast);
    settings.advertise = None;
    Bench::with(settings)
        .node(A, Packet::PingResp)
        .at(4_000_000)
        .sends([]);
    let mut t = Bench::new();
    t.node(A, Packet::PingResp).at(4_000_000).sends([]);
}

#[test]
fn the_interval_fits_the_field() {
    let mut settings = broadcasting(GwInfoTo::Unicast);
    settings.advertise = Some(Duration::from_secs(1_000_000));
    let mut t = Bench::with(settings);
    let duration = u16::MAX;
    t.node(A, Packet::PingResp)
        .sends([(ALL, Packet::Advertise { gw_id: 1, duration })]);
}

#[test]
fn a_gateway_calls_itself_by_its_configured_id() {
    let mut settings = broadcasting(GwInfoTo::Both);
    settings.gateway_id = 77;
    let gwinfo = Packet::GwInfo {
        gw_id: 77,
        gw_addr: &[],
    };
    let advertise = Packet::Advertise {
        gw_id: 77,
        duration: 900,
    };
    Bench::with(settings).node(A, SEARCH).sends([
        (ALL, advertise),
        (A, gwinfo),
        ("all on 0 radius 2", gwinfo),
    ]);
}

#[test]
fn a_gateway_without_broker_does_not_advertise() {
    let mut t = Bench::with_broker(broadcasting(GwInfoTo::Unicast), Broker::Down);
    t.at(0).node(A, Packet::PingResp).at(1_000_000).sends([]);
    t.broker = Broker::Accepts {
        session_present: false,
    };
    t.at(1_040_000).sends([(ALL, ADVERTISE)]);
    t.broker = Broker::Down;
    t.at(1_100_000).cut(OWN).at(3_000_000).sends([]);
}

#[test]
fn a_short_loss_of_the_broker_does_not_silence_the_gateway() {
    let mut settings = broadcasting(GwInfoTo::Unicast);
    settings.advertise = Some(Duration::from_secs(60));
    let advertise = Packet::Advertise {
        gw_id: 1,
        duration: 60,
    };
    let mut t = Bench::with(settings);
    t.sends([(ALL, advertise)]);
    t.broker = Broker::Down;
    t.at(50_000).cut(OWN).at(60_000).sends([(ALL, advertise)]);
    t.at(300_000).sends([]);
}

/// What gateway 2 says of itself, every minute.
const OTHER: Packet<'_> = Packet::Advertise {
    gw_id: 2,
    duration: 60,
};

fn standing_by() -> Bench {
    let mut settings = broadcasting(GwInfoTo::Unicast);
    settings.standby_for = Some(2);
    Bench::with(settings)
}

#[test]
fn a_stand_by_gateway_advertises_when_the_other_one_has_missed_three() {
    let mut t = standing_by();
    t.at(0).node(A, OTHER).sends([]);
    t.at(100_000).node(A, OTHER).sends([]);
    t.at(279_999).sends([]);
    t.at(280_000).sends([(ALL, ADVERTISE)]);
    t.at(280_000 + 899_999).sends([]);
    t.at(280_000 + 900_000).sends([(ALL, ADVERTISE)]);
}

#[test]
fn a_stand_by_gateway_that_hears_nobody_waits_for_three_of_its_own_intervals() {
    let mut t = standing_by();
    t.at(0).node(A, Packet::PingResp).at(2_699_999).sends([]);
    t.at(2_700_000).sends([(ALL, ADVERTISE)]);
}

#[test]
fn a_stand_by_gateway_is_quiet_again_when_the_other_one_is_back() {
    let mut t = standing_by();
    t.at(0).node(A, OTHER).at(180_000).sends([(ALL, ADVERTISE)]);
    t.at(500_000).node(A, OTHER).at(679_999).sends([]);
    t.at(680_000).sends([(ALL, ADVERTISE)]);
}

#[test]
fn only_the_gateway_it_stands_by_for_keeps_it_quiet() {
    let third = Packet::Advertise {
        gw_id: 3,
        duration: 60,
    };
    let mut t = standing_by();
    t.at(0).node(A, OTHER).at(179_999).node(A, third).sends([]);
    t.at(180_000).sends([(ALL, ADVERTISE)]);
    let mut t = Bench::with(broadcasting(GwInfoTo::Unicast));
    t.at(0).node(A, OTHER).sends([(ALL, ADVERTISE)]);
}

#[test]
fn a_stand_by_gateway_answers_who_searches_and_who_connects() {
    let mut t = standing_by();
    t.at(0).node(A, OTHER).node(A, SEARCH).sends([(A, GWINFO)]);
    t.node(A, connect("n", true)).sends([(A, CONNACK)]);
}

#[test]
fn an_advertisement_without_a_duration_is_good_for_three_seconds() {
    let now = Packet::Advertise {
        gw_id: 2,
        duration: 0,
    };
    let mut t = standing_by();
    t.at(0).node(A, now).at(2_999).sends([]);
    t.at(3_000).sends([(ALL, ADVERTISE)]);
}

/// A radio network is told when it comes up, between the turns, under the same conditions.
#[test]
fn a_link_that_comes_up_is_told_under_the_same_conditions() {
    let up = |t: &mut Bench| {
        let now = t.now();
        t.gateway
            .handle_input(now, Input::Link(LinkId(0), LinkEvent::Up));
        t.drain();
    };
    let mut t = Bench::with(broadcasting(GwInfoTo::Unicast));
    t.sends([(ALL, ADVERTISE)]).at(5_000);
    up(&mut t);
    t.sends([(ALL, ADVERTISE)]);
    t.at(899_999).sends([]).at(900_000);
    t.sends([(ALL, ADVERTISE)]);

    let mut t = Bench::with_broker(broadcasting(GwInfoTo::Unicast), Broker::Down);
    up(&mut t);
    t.sends([]);
    let mut t = standing_by();
    t.at(0).node(A, OTHER);
    up(&mut t);
    t.sends([]).at(180_000).sends([(ALL, ADVERTISE)]);
    up(&mut t);
    t.sends([(ALL, ADVERTISE)]);
    let mut t = Bench::new();
    up(&mut t);
    t.sends([]);
}
