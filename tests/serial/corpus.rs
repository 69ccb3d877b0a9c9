//! Replays what the fuzzer has found interesting, without the fuzzer (tools/fuzz/README.md).

use std::time::Instant;

#[path = "../../tools/fuzz/bodies/framing.rs"]
mod body;

#[test]
fn the_corpus_replays() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/fuzz/corpus/framing");
    let start = Instant::now();
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        body::run(
            &std::fs::read(entry.expect("an entry").path()).expect("a file"),
            start,
        );
        replayed += 1;
    }
    assert!(replayed > 30, "only {replayed} files in {folder}");
}
