//! The store under load: `cargo bench --bench store [-- DIRECTORY]`.
//!
//! Messages pass through as those of nodes do while the broker is away for a moment: each is put and
//! committed, and deleted again some time later. The directory (default: the system's for temporary
//! files) decides what a sync costs.
#![expect(clippy::print_stdout, reason = "its output is a table")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_sn_gateway::store::{Answer, DiskConfig, Op, Store, StoreConfig, Ticket};

/// Octets of a message: topic and payload, and what a core adds.
const VALUE: usize = 100;
/// Messages in the store at a time.
const DEPTH: u64 = 1000;
const SECONDS: u64 = 5;

fn main() {
    // cargo passes --bench.
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let root = named.map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(&root).expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        println!("{VALUE} octets a message, in {}", root.display());
        println!("load             msg/s   p50 ms   p99 ms   max ms   log B/msg  disk B/msg");
        for rate in [100, 1000, 5000] {
            let load = Load::Rate(rate);
            pass_through(&directory.path().join(rate.to_string()), load).await;
        }
        for window in [1, 64, 1000] {
            let load = Load::Window(window);
            pass_through(&directory.path().join(format!("w{window}")), load).await;
        }
        open(&directory.path().join("sessions")).await;
    });
}

#[derive(Clone, Copy)]
enum Load {
    /// So many messages a second, whatever is answered.
    Rate(u64),
    /// So many messages unanswered at a time.
    Window(usize),
}

async fn pass_through(path: &Path, load: Load) {
    let config = StoreConfig::Disk(DiskConfig::new(path.to_owned()));
    let (mut store, _) = Store::open(&config).expect("opens");
    let before = Written::now();
    let start = now();
    let end = start + Duration::from_secs(SECONDS);
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut sent = 0;
    while now() < end {
        let due = match load {
            Load::Rate(rate) => {
                let due = now().duration_since(start).as_micros() * u128::from(rate) / 1_000_000;
                (due as u64).saturating_sub(sent)
            }
            Load::Window(window) => window.saturating_sub(waiting.len()) as u64,
        };
        for _ in 0..due {
            store.handle_op(Op::Put {
                key: key(sent),
                value: Bytes::from(vec![b'x'; VALUE]),
            });
            store.handle_op(Op::Commit(Ticket(sent)));
            if sent >= DEPTH {
                store.handle_op(Op::Delete {
                    key: key(sent - DEPTH),
                });
            }
            waiting.push_back(now());
            sent += 1;
        }
        store.flush();
        let answered = tokio::time::timeout(Duration::from_millis(1), store.answered());
        if answered.await.is_ok() {
            while let Some(answer) = store.poll_answer() {
                if let Answer::Stored(_) = answer
                    && let Some(asked) = waiting.pop_front()
                {
                    latencies.push(now().duration_since(asked));
                }
            }
        }
    }
    store.close().await;
    let written = Written::now();
    latencies.sort_unstable();
    let at = |part: f64| {
        let place = (latencies.len() as f64 * part) as usize;
        let latency = latencies.get(place.min(latencies.len() - 1));
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    };
    let each = |octets: u64| octets as f64 / sent as f64 - (VALUE + KEY) as f64;
    let name = match load {
        Load::Rate(rate) => format!("{rate} a second"),
        Load::Window(window) => format!("window {window}"),
    };
    println!(
        "{name:14} {:>7} {:>8.1} {:>8.1} {:>8.1} {:>11.1} {:>11.1}",
        latencies.len() as u64 / SECONDS,
        at(0.5),
        at(0.99),
        at(1.0),
        each(written.octets - before.octets),
        each(written.pages - before.pages),
    );
}

/// How long 100,000 sessions take to open.
async fn open(path: &Path) {
    let config = StoreConfig::Disk(DiskConfig::new(path.to_owned()));
    let (mut store, _) = Store::open(&config).expect("opens");
    for number in 0..100_000 {
        store.handle_op(Op::Put {
            key: key(number),
            value: Bytes::from(vec![b's'; 200]),
        });
    }
    store.close().await;
    let start = now();
    let (store, records) = Store::open(&config).expect("opens");
    let took = start.elapsed();
    println!(
        "{} records of 200 octets opened in {took:.0?}",
        records.len()
    );
    store.close().await;
}

/// Octets of a key.
const KEY: usize = 14;

fn key(number: u64) -> Bytes {
    Bytes::from(format!("up/{number:011}"))
}

/// What this process wrote so far.
struct Written {
    /// As it asked the kernel to.
    octets: u64,
    /// As it changed pages of files.
    pages: u64,
}

impl Written {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/io").expect("Linux");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .expect(name)
        };
        Self {
            octets: field("wchar:"),
            pages: field("write_bytes:"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}
