//! The store as the daemon and its user meet it: tickets, restarts, and what it says when it cannot.
#![cfg(feature = "embedded-broker")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use mqtt_sn_gateway::store::{Answer, DiskConfig, Op, Store, StoreConfig, Ticket};

#[test]
fn tickets_are_answered_in_order_and_what_is_before_them_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = disk(directory.path());
    let (mut store, records) = Store::open(&config).expect("opens");
    assert!(records.is_empty());
    for number in 0..500 {
        store.handle_op(put(number));
        store.handle_op(Op::Commit(Ticket(number)));
        if number % 7 == 0 {
            store.flush();
        }
    }
    store.handle_op(Op::Delete { key: key(3) });
    store.flush();
    assert_eq!(tickets(&mut store, 500), (0..500).collect::<Vec<_>>());
    // A kill: nothing is closed. The second process waits until the first has let go.
    drop(store);
    let (store, records) = open_again(&config);
    assert_eq!(records.len(), 499);
    assert_eq!(records[3].key, key(4));
    assert_eq!(records[3].value, "value 4");
    assert!(records[3].age < Duration::from_secs(60));
    block_on(store.close());
}

#[test]
fn memory_answers_at_once_and_keeps_nothing() {
    let (mut store, _) = Store::open(&StoreConfig::Memory).expect("opens");
    store.handle_op(put(1));
    store.handle_op(Op::Commit(Ticket(7)));
    assert_eq!(store.poll_answer(), Some(Answer::Stored(Ticket(7))));
    assert_eq!(store.poll_answer(), None);
    assert!(!store.is_congested());
}

#[test]
fn a_full_store_says_so_and_when_it_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let StoreConfig::Disk(mut small) = disk(directory.path()) else {
        unreachable!("a disk");
    };
    small.max = 1 << 20;
    let config = StoreConfig::Disk(small);
    let (mut store, _) = Store::open(&config).expect("opens");
    let value = Bytes::from(vec![7; 50_000]);
    for number in 0..20 {
        store.handle_op(Op::Put {
            key: key(number),
            value: value.clone(),
        });
    }
    store.flush();
    assert_eq!(answer(&mut store), Answer::Full(true));
    block_on(store.close());
    let (mut store, _) = open_again(&config);
    assert_eq!(answer(&mut store), Answer::Full(true));
    for number in 0..10 {
        store.handle_op(Op::Delete { key: key(number) });
    }
    store.flush();
    assert_eq!(answer(&mut store), Answer::Full(false));
    block_on(store.close());
}

/// Each case: what is in the way, and what is said of it.
#[test]
fn a_store_that_cannot_be_opened_is_explained_and_stops_only_who_requires_it() {
    let root = tempfile::tempdir().expect("a directory");
    let in_root = |name: &str| root.path().join(name);
    fs::write(in_root("file"), "").expect("written");
    fs::create_dir(in_root("old")).expect("made");
    fs::write(in_root("old/0000000001.log"), b"MQTTSNst\0\0\0\0").expect("written");
    fs::create_dir(in_root("foreign")).expect("made");
    fs::write(in_root("foreign/0000000001.log"), "an ordinary log").expect("written");
    let (_other, _) = Store::open(&disk(&in_root("taken"))).expect("opens");
    for (name, said, advice) in [
        ("file", "is not a directory", "name one in store.path"),
        (
            "old",
            "has format 0, this version reads format 1",
            "store export FILE",
        ),
        ("foreign", "is no file of the store", "move it away"),
        (
            "taken",
            "is in use by another process (pid ",
            "stop the other",
        ),
    ] {
        let error = start(root.path(), name, true).refused();
        assert!(error.contains(said) && error.contains(advice), "{error}");
        assert!(error.contains(name), "{error}");
        let warned = start(root.path(), name, false).warned();
        assert!(warned.contains(said) && warned.contains(advice), "{warned}");
    }
}

/// Root may write everywhere, so the gateway runs as nobody.
#[test]
fn a_directory_that_may_not_be_written_is_explained() {
    let root = tempfile::tempdir().expect("a directory");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.path(), mode).expect("set");
    let gateway = root.path().join("gateway");
    fs::copy(env!("CARGO_BIN_EXE_mqtt-sn-gateway"), &gateway).expect("copied");
    let mut command = Command::new(&gateway);
    let is_root = fs::metadata("/proc/self").is_ok_and(|this| {
        use std::os::unix::fs::MetadataExt;
        this.uid() == 0
    });
    if is_root {
        command.uid(65_534).gid(65_534);
    }
    let closed = root.path().join("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("set");
    let error = start_as(command, root.path(), "closed/store", true).refused();
    assert!(error.contains("cannot make the directory"), "{error}");
    assert!(error.contains("Permission denied"), "{error}");
    assert!(
        error.contains("let the user of this process write there"),
        "{error}"
    );
}

/// A real file system of 64 KiB, in a mount namespace of its own. Only root can make one.
#[test]
fn a_full_disk_is_explained() {
    let root = tempfile::tempdir().expect("a directory");
    let place = root.path().join("small");
    fs::create_dir(&place).expect("made");
    let mounted = |size: &str, then: &str| {
        let place = place.display();
        let script = format!("mount -t tmpfs -o size={size} none {place} && {then}");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command
    };
    let possible = mounted("64k", "true").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("not tested: no small file system can be mounted here");
        return;
    }
    let lines: String = (0..30)
        .map(|n| {
            format!(
                "{{\"key\":\"k{n}\",\"value\":\"{}\"}}\n",
                "AAAA".repeat(1000)
            )
        })
        .collect();
    let file = root.path().join("lines");
    fs::write(&file, lines).expect("written");
    let gateway = env!("CARGO_BIN_EXE_mqtt-sn-gateway");
    let (place, file) = (place.display(), file.display());
    let import = format!("exec {gateway} store --path {place}/store import {file}");
    let output = mounted("64k", &import).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("make room on that disk"), "{said}");
    let fill = format!("head -c 64k /dev/zero >{place}/rest 2>&1; exec {gateway} -c {place}.yaml");
    let configured = configuration(&format!("{place}/store"), true);
    fs::write(format!("{place}.yaml"), configured).expect("written");
    let error = Running(spawn(&mut mounted("64k", &fill))).refused();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("make room on that disk"), "{error}");
}

#[test]
fn records_move_as_lines() {
    let root = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(&disk(&root.path().join("a"))).expect("opens");
    for number in 0..3 {
        store.handle_op(put(number));
    }
    store.handle_op(Op::Put {
        key: Bytes::from_static(b"up/\x00\xff\\"),
        value: Bytes::from_static(b"\x01\x02\x03"),
    });
    store.handle_op(Op::Commit(Ticket(1)));
    store.flush();
    tickets(&mut store, 1);
    // While the store is in use.
    let exported = on_store(root.path(), &["--path", "a", "export"]);
    assert_eq!(exported.status.code(), Some(0));
    let lines = text(&exported.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].starts_with("{\"key\":\"key/000000\",\"age\":"),
        "{}",
        lines[0]
    );
    assert!(
        lines[3].contains(r#""key":"up/\\x00\\xff\\x5c""#),
        "{}",
        lines[3]
    );
    assert!(lines[3].ends_with(r#""value":"AQID"}"#), "{}", lines[3]);
    let refused = on_store(root.path(), &["--path", "a", "import", "/dev/null"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is in use by another process"));

    fs::write(root.path().join("lines"), exported.stdout).expect("written");
    let imported = on_store(root.path(), &["--path", "b", "import", "lines"]);
    assert_eq!(text(&imported.stderr), "4 records read in\n");
    let (_, records) = Store::open(&disk(&root.path().join("b"))).expect("opens");
    assert_eq!(records.len(), 4);
    assert_eq!(records[3].key, b"up/\x00\xff\\"[..]);
    let listed = on_store(root.path(), &["ls", "--path", "a"]);
    let listed = text(&listed.stdout);
    assert!(listed.contains("7B  key/000000\n"), "{listed}");
    assert!(listed.ends_with("\n4 records, 24B\n"), "{listed}");

    fs::write(root.path().join("lines"), "\n{\"key\":\"a\"}\n").expect("written");
    let refused = on_store(root.path(), &["--path", "c", "import", "lines"]);
    let said = text(&refused.stderr);
    assert!(said.starts_with("line 2: missing field `value`"), "{said}");
    let nothing = on_store(root.path(), &["--path", "c", "ls"]);
    assert_eq!(text(&nothing.stderr), "store: there is nothing at c\n");
}

fn disk(path: &Path) -> StoreConfig {
    StoreConfig::Disk(DiskConfig {
        sync: Duration::from_millis(10),
        required: true,
        ..DiskConfig::new(path.to_owned())
    })
}

/// Opens a store the thread of which may still be ending.
fn open_again(config: &StoreConfig) -> (Store, Vec<mqtt_sn_gateway::store::Record>) {
    for _ in 0..100_000 {
        if let Ok(opened) = Store::open(config) {
            return opened;
        }
        std::thread::yield_now();
    }
    Store::open(config).expect("free by now")
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key/{number:06}"))
}

fn put(number: u64) -> Op {
    Op::Put {
        key: key(number),
        value: Bytes::from(format!("value {number}")),
    }
}

fn tickets(store: &mut Store, count: usize) -> Vec<u64> {
    let mut tickets = Vec::new();
    while tickets.len() < count {
        match answer(store) {
            Answer::Stored(ticket) => tickets.push(ticket.0),
            Answer::Full(_) => {}
        }
    }
    tickets
}

fn answer(store: &mut Store) -> Answer {
    block_on(async {
        tokio::time::timeout(Duration::from_secs(20), store.answered())
            .await
            .expect("an answer");
        store.poll_answer().expect("an answer")
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// A gateway; killed when dropped.
struct Running(Child);

impl Running {
    /// Waits until it has refused to start; returns what it said.
    fn refused(mut self) -> String {
        let mut said = String::new();
        let stderr = self.0.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut said).expect("text");
        let status = self.0.wait().expect("it ends");
        assert_eq!(status.code(), Some(1), "{said}");
        said
    }

    /// Waits until it runs; returns what it said before.
    fn warned(mut self) -> String {
        let stderr = self.0.stderr.take().expect("a pipe");
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let said: Vec<_> = lines
            .take_while(|line| !line.contains("listening on UDP"))
            .collect();
        let said = said.join("\n");
        assert!(said.contains("WARN"), "{said}");
        assert!(said.contains("running without it"), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path, store: &str, required: bool) -> Running {
    let command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
    start_as(command, root, store, required)
}

fn start_as(mut command: Command, root: &Path, store: &str, required: bool) -> Running {
    fs::write(root.join("gateway.yaml"), configuration(store, required)).expect("written");
    Running(spawn(command.current_dir(root)))
}

fn configuration(store: &str, required: bool) -> String {
    format!(
        "broker: {{listen: '127.0.0.1:0'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         store: {{path: {store}, required: {required}}}\n"
    )
}

fn spawn(command: &mut Command) -> Child {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::null());
    let piped = piped.stderr(Stdio::piped()).env_remove("RUST_LOG");
    piped.spawn().expect("started")
}

fn on_store(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
    command.current_dir(root).arg("store").args(arguments);
    command.output().expect("started")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
