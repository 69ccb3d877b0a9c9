//! CONNACK for a node whose Will is to be on disk first.

use super::*;

const CONGESTION: Packet<'_> = Packet::ConnAck {
    code: ReturnCode::Congestion,
};

/// A node with a store has brought a Will at 0 ms, and the broker has accepted it.
fn unkept() -> Timeline {
    let mut t = Timeline::new();
    t.keeping_will = Keeping::Store;
    t.at(0).connects(content(true, false, 60));
    t.sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    t.node(GONE)
        .asks([connect_with(false, Some(will("lwt", b"gone")))]);
    t.broker(accepted()).sends([]).is(Status::Connecting);
    t
}

#[test]
fn connack_waits_until_the_store_has_the_will() {
    unkept().stored().sends([CONNACK]).is(Status::Active);
}

#[test]
fn connack_waits_for_the_store_for_ten_seconds() {
    let mut t = unkept();
    t.due(10_000).at(10_000).sends([CONGESTION]);
    t.asks([Request::Disconnect]).is(Status::Disconnected);
    // What the store says now comes too late.
    t.stored().sends([]).is(Status::Disconnected);
}

/// However often it asks.
#[test]
fn a_repeated_connect_does_not_make_it_longer() {
    let mut t = unkept();
    for ms in [3_000, 6_000, 9_000] {
        t.at(ms).connects(content(true, false, 60));
        t.sends([]).asks([]);
    }
    t.due(10_000).stored().sends([CONNACK]);
}

#[test]
fn a_store_that_fills_up_is_congestion() {
    let mut t = unkept();
    t.store_full().sends([CONGESTION]);
    t.asks([Request::Disconnect]).is(Status::Disconnected);
}

#[test]
fn the_end_of_a_session_waits_for_the_store_but_needs_no_room() {
    let mut t = unkept();
    t.stored().sends([CONNACK]);
    t.connects(content(false, true, 60))
        .asks([connect_with(true, None)]);
    t.broker(accepted()).sends([]).store_full().sends([]);
    t.stored().sends([CONNACK]).is(Status::Active);
    // It is no news the next time.
    t.at(60_000).connects(content(false, true, 60));
    t.asks([connect_with(true, None)]);
    t.broker(accepted()).sends([CONNACK]);
}

#[test]
fn a_session_that_begins_to_outlive_its_connection_waits_for_the_store() {
    let mut t = with_will(true);
    t.keeping_will = Keeping::Store;
    let kept = || Some(will("lwt", b"gone"));
    t.connects(content(false, false, 60))
        .asks([connect_with(false, kept())]);
    t.broker(accepted()).sends([]).stored().sends([CONNACK]);
}

#[test]
fn what_the_store_has_already_is_answered_at_once() {
    let mut t = unkept();
    t.stored().sends([CONNACK]);
    t.at(60_000).connects(content(true, false, 60));
    t.sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    t.node(GONE).asks([]).sends([CONNACK]);
    t.keeping_will = Keeping::FullStore;
    t.at(120_000).connects(content(false, false, 60));
    t.asks([]).sends([CONNACK]);
}
