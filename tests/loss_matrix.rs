//! What arrives, what it costs: loss x QoS x awake or asleep, up and down, as a table in git.
//!
//! `REGENERATE=1 cargo test --test loss_matrix` writes `tests/data/loss-matrix.txt` anew; look at the
//! difference before you commit it.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use mqtt_sn_gateway::wire::QoS;
use mqtt_sn_world::{Act, Impairment, Interest, Plan, Season, Subject, World, settings};

const LOSSES: [u32; 6] = [0, 1, 5, 10, 20, 30];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const NODES: usize = 10;
const MESSAGES: usize = 20;
/// Between two messages of one node.
const PACE: Duration = Duration::from_secs(30);
/// How long nodes and gateway may work on what is left when nothing new comes.
const REST: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Awake,
    Asleep,
}

#[derive(Clone, Copy)]
struct Cell {
    direction: Direction,
    node: Node,
    qos: QoS,
    loss: u32,
}

#[derive(Debug, Default)]
struct Outcome {
    delivered: u32,
    duplicates: u32,
    datagrams: u64,
    octets: u64,
}

#[test]
fn the_loss_matrix_is_what_the_table_says() {
    let table = table();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/loss-matrix.txt");
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, &table).expect("a writable tree");
    }
    let known = std::fs::read_to_string(&path).expect("the table is in git");
    let differences: Vec<String> = known
        .lines()
        .zip(table.lines())
        .filter(|(known, now)| known != now)
        .map(|(known, now)| format!("  known {known}\n  now   {now}"))
        .collect();
    assert!(
        differences.is_empty() && known.lines().count() == table.lines().count(),
        "{} rows differ; if that is right: REGENERATE=1 cargo test --test loss_matrix\n{}",
        differences.len(),
        differences.join("\n")
    );
}

fn table() -> String {
    let mut table = format!(
        "{NODES} nodes, {MESSAGES} messages each, one every {} s; loss in each direction.\n\
         duplicates: copies beyond the first that reached the application or the broker.\n\
         datagrams, octets: all that was sent between nodes and gateway, keep-alive included.\n\n\
         direction  node    QoS  loss %  published  delivered  duplicates  datagrams   octets\n",
        PACE.as_secs()
    );
    for direction in [Direction::Up, Direction::Down] {
        for node in [Node::Awake, Node::Asleep] {
            for qos in LEVELS {
                for loss in LOSSES {
                    let cell = Cell {
                        direction,
                        node,
                        qos,
                        loss,
                    };
                    let outcome = run(cell);
                    check(cell, &outcome);
                    writeln!(
                        table,
                        "{:<9}  {:<6}  {:>3}  {loss:>6}  {:>9}  {:>9}  {:>10}  {:>9}  {:>7}",
                        match direction {
                            Direction::Up => "up",
                            Direction::Down => "down",
                        },
                        match node {
                            Node::Awake => "awake",
                            Node::Asleep => "asleep",
                        },
                        qos,
                        NODES * MESSAGES,
                        outcome.delivered,
                        outcome.duplicates,
                        outcome.datagrams,
                        outcome.octets,
                    )
                    .expect("a String takes everything");
                }
            }
        }
    }
    table
}

/// What must hold whatever the table says.
fn check(cell: Cell, outcome: &Outcome) {
    let published = (NODES * MESSAGES) as u32;
    if cell.qos >= QoS::AtLeastOnce || cell.loss == 0 {
        assert_eq!(
            outcome.delivered, published,
            "QoS {} {:?} {:?} loses nothing",
            cell.qos, cell.direction, cell.node,
        );
    }
    if cell.qos != QoS::AtLeastOnce {
        assert_eq!(outcome.duplicates, 0, "QoS {} repeats nothing", cell.qos);
    }
}

fn run(cell: Cell) -> Outcome {
    let mut world = World::new(settings(), 1);
    for number in 0..NODES {
        world.add_device(
            plan(cell, number),
            Impairment::lossy(f64::from(cell.loss) / 100.0),
        );
    }
    // Everybody is connected and subscribed before the first message.
    let calm = Duration::from_secs(300);
    world.run_for(calm).expect("no rule is broken");
    for message in 0..MESSAGES as u32 {
        for number in 0..NODES {
            let topic = format!("loss/{number}");
            match cell.direction {
                Direction::Up => {
                    world.publish_from(number, Subject::Name(topic), cell.qos);
                }
                Direction::Down => {
                    world.schedule(world.now(), Act::Publish(topic, cell.qos, false, 16));
                }
            }
        }
        world
            .run_until(calm + PACE * (message + 1))
            .expect("no rule is broken");
    }
    world.enter(Season::Calm);
    world.run_for(REST).expect("no rule is broken");
    count(&world, cell.direction)
}

fn plan(cell: Cell, number: usize) -> Plan {
    Plan {
        clean: false,
        interests: match cell.direction {
            Direction::Up => Vec::new(),
            Direction::Down => vec![(Interest::Name(format!("loss/{number}")), cell.qos)],
        },
        payload: 16,
        sleep: (cell.node == Node::Asleep).then_some(120),
        ..Plan::idle(&format!("n{number}"))
    }
}

fn count(world: &World, direction: Direction) -> Outcome {
    let mut outcome = Outcome {
        datagrams: world.traffic.up + world.traffic.down,
        octets: world.traffic.octets,
        ..Outcome::default()
    };
    for (id, message) in world.ledger.messages() {
        let copies = match direction {
            Direction::Up => message.arrivals,
            Direction::Down => world
                .ledger
                .receipts(id)
                .map(|(_, receipt)| receipt.delivered)
                .sum(),
        };
        outcome.delivered += u32::from(copies > 0);
        outcome.duplicates += copies.saturating_sub(1);
    }
    outcome
}
