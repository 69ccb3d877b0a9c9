//! WILLTOPICUPD and WILLMSGUPD [S 6.4; I-27].

use super::*;

/// MQTT 3.1.1 changes a Will by a new connection: fine if the broker keeps the session (I-27).
#[test]
fn updates_reconnect_a_persistent_session() {
    let mut t = with_will(false);
    t.at(100).node(Packet::WillMsgUpd { message: b"bye" });
    t.asks([connect_with(false, Some(will("lwt", b"bye")))])
        .sends([]);
    t.at(150)
        .node(Packet::WillMsgUpd { message: b"bye" })
        .nothing_more();
    t.at(200).broker(resumed()).sends([Packet::WillMsgResp {
        code: ReturnCode::Accepted,
    }]);
    let topic = WillTopic {
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: "other",
    };
    t.at(300).node(Packet::WillTopicUpd(Some(topic)));
    let other = |message| Will {
        qos: QoS::ExactlyOnce,
        retain: false,
        ..will("other", message)
    };
    t.asks([connect_with(false, Some(other(b"bye")))]);
    t.broker(resumed()).sends([Packet::WillTopicResp {
        code: ReturnCode::Accepted,
    }]);
    t.at(400)
        .node(Packet::WillTopicUpd(None))
        .asks([connect_with(false, None)]);
    t.broker(resumed()).sends([Packet::WillTopicResp {
        code: ReturnCode::Accepted,
    }]);
    // The message is deleted with the topic.
    t.node(Packet::WillMsgUpd { message: b"bye" });
    t.sends([Packet::WillMsgResp {
        code: ReturnCode::NotSupported,
    }]);
    t.at(500).node(Packet::WillTopicUpd(Some(topic)));
    t.asks([connect_with(false, Some(other(b"")))]);
    t.broker(resumed()).sends([Packet::WillTopicResp {
        code: ReturnCode::Accepted,
    }]);
    // Stored as if it had come with CONNECT.
    t.at(600).node(DISCONNECT);
    t.sends([DISCONNECT]).asks([Request::Disconnect]);
    t.at(700).connects(content(false, false, 60));
    t.asks([connect_with(false, Some(other(b"")))]);
}

/// Nodes send both halves without waiting in between.
#[test]
fn an_update_that_comes_during_another_follows_it() {
    let topic = |topic| Packet::WillTopicUpd(Some(WillTopic { topic, ..TOPIC }));
    let message = Packet::WillMsgUpd { message: b"bye" };
    let (topic_done, message_done) = (
        Packet::WillTopicResp {
            code: ReturnCode::Accepted,
        },
        Packet::WillMsgResp {
            code: ReturnCode::Accepted,
        },
    );
    let mut t = with_will(false);
    t.at(100).node(topic("new"));
    t.asks([connect_with(false, Some(will("new", b"gone")))])
        .sends([]);
    t.node(message)
        .node(message)
        .node(topic("new"))
        .node(message);
    t.nothing_more();
    t.at(200).broker(resumed()).sends([topic_done]);
    t.asks([connect_with(false, Some(will("new", b"bye")))]);
    t.at(300).broker(resumed()).sends([message_done]).asks([]);
    t.node(message).sends([message_done]).asks([]);

    // Of several that wait the last counts, with what the others change.
    t.at(400).node(Packet::WillTopicUpd(None));
    t.asks([connect_with(false, None)]);
    t.node(topic("newer")).node(message);
    t.broker(resumed()).sends([topic_done]);
    t.asks([connect_with(false, Some(will("newer", b"bye")))]);
    t.broker(resumed()).sends([message_done]).asks([]);
    t.node(topic("newer")).sends([topic_done]).asks([]);

    // A connection that ends takes them along; the node repeats what is not answered.
    t.at(500).node(topic("newest")).node(message);
    t.asks([connect_with(false, Some(will("newest", b"bye")))]);
    t.node(DISCONNECT).asks([Request::Disconnect]);
    t.sends([DISCONNECT]);
}

#[test]
fn updates_of_a_clean_session_are_not_supported() {
    let mut t = with_will(true);
    t.at(100).node(Packet::WillMsgUpd { message: b"bye" });
    t.sends([Packet::WillMsgResp {
        code: ReturnCode::NotSupported,
    }]);
    t.at(200).node(Packet::WillTopicUpd(None));
    t.sends([Packet::WillTopicResp {
        code: ReturnCode::NotSupported,
    }]);
    // The Will is what it was: to this one nothing has to be changed.
    t.at(300).node(Packet::WillMsgUpd { message: b"gone" });
    t.sends([Packet::WillMsgResp {
        code: ReturnCode::Accepted,
    }]);
}

/// The gateway publishes the Will itself there, and need not reconnect.
#[test]
fn updates_of_a_clean_session_on_shared_connections_are_accepted() {
    let mut t = with_will(true);
    t.carried = true;
    t.at(100).node(Packet::WillMsgUpd { message: b"bye" });
    let bye = Arc::new(will("lwt", b"bye"));
    t.asks([Request::ChangeWill(Some(bye))])
        .sends([Packet::WillMsgResp {
            code: ReturnCode::Accepted,
        }]);
    t.at(200).node(Packet::WillTopicUpd(None));
    t.asks([Request::ChangeWill(None)])
        .sends([Packet::WillTopicResp {
            code: ReturnCode::Accepted,
        }]);
}

#[test]
fn an_update_that_changes_nothing_is_accepted() {
    let mut t = with_will(true);
    t.at(100).node(Packet::WillMsgUpd { message: b"gone" });
    t.sends([Packet::WillMsgResp {
        code: ReturnCode::Accepted,
    }]);
    t.at(200).node(Packet::WillTopicUpd(Some(TOPIC)));
    t.sends([Packet::WillTopicResp {
        code: ReturnCode::Accepted,
    }]);
}

#[test]
fn a_will_message_without_a_topic_has_nothing_to_attach_to() {
    let mut t = Timeline::connected_persistent();
    t.at(100).node(Packet::WillMsgUpd { message: b"bye" });
    t.sends([Packet::WillMsgResp {
        code: ReturnCode::NotSupported,
    }]);
}

#[test]
fn an_impossible_update_is_rejected() {
    let mut t = with_will(false);
    t.at(100).node(Packet::WillTopicUpd(Some(WillTopic {
        topic: "a/#",
        ..TOPIC
    })));
    t.sends([Packet::WillTopicResp {
        code: ReturnCode::NotSupported,
    }]);
}
