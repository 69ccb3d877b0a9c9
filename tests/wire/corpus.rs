//! Replays what the fuzzer has found interesting, without the fuzzer (tools/fuzz/README.md).

#[path = "../../tools/fuzz/bodies/wire.rs"]
mod body;

#[test]
fn the_corpus_replays() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/fuzz/corpus/wire");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        body::run(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 200, "only {replayed} files in {folder}");
}
