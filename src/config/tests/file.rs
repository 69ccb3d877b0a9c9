//! The file as such: what YAML allows, and what no file may do to us.

use std::time::Duration;

use proptest::prelude::*;

use super::{SHIPPED, good, read};

#[test]
fn anchors_work_and_bombs_do_not() {
    let config = good(
        "clients: {idle_max: &time 1h, keep_disconnected: *time}\nlinks: [{type: udp, listen: [1]}]",
    );
    assert_eq!(
        config.settings.session.keep_disconnected,
        Duration::from_secs(3600)
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    read(&bomb).expect_err("refused");
    read(&"[".repeat(100_000)).expect_err("too deep");
    read(&"a: {".repeat(10_000)).expect_err("too deep");
}

proptest! {
    /// Whatever the file holds, there is a configuration or a message.
    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&String::from_utf8_lossy(&octets));
    }

    /// The shipped file with pieces cut out, doubled, moved and overwritten.
    #[test]
    fn damaged_files_never_panic(
        wounds in proptest::collection::vec((0..SHIPPED.len(), 0..40usize, "[ -~\t\né]{0,6}"), 1..12)
    ) {
        let mut text: Vec<char> = SHIPPED.replace('#', " ").chars().collect();
        for (at, length, patch) in wounds {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, patch.chars());
        }
        let _ = read(&text.into_iter().collect::<String>());
    }
}
