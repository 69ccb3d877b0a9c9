//! The end of a run: what happened, what was expected, whether it came true.

use mqtt_sn_gateway::wire::QoS;
use serde_json::{Value, json};

use super::expect::{Expectation, Figure};
use super::run::Run;
use crate::failure::Failure;
use crate::print::line;

/// One expectation and what came of it.
struct Verdict {
    expected: String,
    actual: String,
    met: bool,
}

/// Prints the report.
///
/// # Errors
/// [`Failure::Expectation`] when one failed.
pub(crate) fn finish(run: &Run, as_json: bool) -> Result<(), Failure> {
    let verdicts = verdicts(run);
    if as_json {
        line(&object(run, &verdicts).to_string())?;
    } else {
        for text in summary(run) {
            line(&text)?;
        }
        for verdict in &verdicts {
            let Verdict {
                expected,
                actual,
                met,
            } = verdict;
            let mark = if *met { "ok    " } else { "FAILED" };
            line(&format!("{mark} expected {expected}: {actual}"))?;
        }
    }
    match verdicts.iter().filter(|verdict| !verdict.met).count() {
        0 => Ok(()),
        1 => Err(Failure::Expectation("one expectation failed".into())),
        failed => Err(Failure::Expectation(format!(
            "{failed} expectations failed"
        ))),
    }
}

fn summary(run: &Run) -> Vec<String> {
    let (tallies, ledger, counters) = (&run.tallies, &run.ledger, run.counters());
    let mut lines = vec![format!(
        "sim: {} nodes, {:.1} s, seed {}",
        run.fleet.len(),
        run.elapsed().as_secs_f64(),
        run.plan.seed
    )];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<14}{text}"));
    say(
        "connections",
        format!(
            "{} accepted, {} thrown out, {} killed",
            tallies.connected, tallies.kicked, tallies.killed
        ),
    );
    say(
        "requests",
        format!(
            "{} repeated, {} refused, {} without an answer{}",
            counters.repeated,
            tallies.rejected,
            tallies.no_answer,
            open_at_end(tallies.open)
        ),
    );
    say(
        "published",
        format!(
            "{} messages, {} acknowledged, {} given up{}",
            ledger.published(),
            ledger.acknowledged,
            ledger.given_up,
            open_at_end(ledger.open_at_end)
        ),
    );
    if run.is_observed() {
        let mut text = format!("{} at the broker", ledger.arrived);
        if let Some(share) = ledger.delivered() {
            text += &format!(" ({})", Figure::Delivered.show(share));
        }
        text += &format!(
            ", {} missing, {} twice",
            ledger.missing(),
            ledger.duplicates
        );
        if ledger.published_at(QoS::ExactlyOnce) {
            text += &format!(", {} of QoS 2 twice", ledger.duplicates_qos2);
        }
        say("arrived", text);
        let unconnected = ledger.missing_at(QoS::MinusOne);
        if unconnected > 0 && unconnected == ledger.missing() {
            let hint = "all that is missing was sent at QoS -1: does the gateway permit it (qos_minus_one)?";
            say("", hint.to_owned());
        }
        if let Some(times) = ledger.times.percentiles() {
            say("broker after", times.to_string());
        }
        if !ledger.wills_seen.is_empty() {
            let topics: Vec<&str> = ledger.wills_seen.iter().map(String::as_str).collect();
            say("wills", topics.join(", "));
        }
    }
    if tallies.received > 0 || counters.while_asleep > 0 {
        say(
            "received",
            format!(
                "{} messages, {} repetitions suppressed, {} sent to sleeping nodes",
                tallies.received, counters.suppressed, counters.while_asleep
            ),
        );
    }
    let (mut fate, inward) = run.fleet.fates();
    fate += inward;
    if fate.taken > 0 {
        say(
            "bad link",
            format!(
                "{} datagrams, {} lost, {} doubled, {} held back, {} changed",
                fate.taken, fate.lost, fate.doubled, fate.held_back, fate.corrupted
            ),
        );
    }
    lines
}

/// What was cut off is worth a word only when there is some.
fn open_at_end(count: u64) -> String {
    match count {
        0 => String::new(),
        _ => format!(", {count} open at the end"),
    }
}

fn object(run: &Run, verdicts: &[Verdict]) -> Value {
    let (tallies, ledger, counters) = (&run.tallies, &run.ledger, run.counters());
    let expectations: Vec<Value> = verdicts
        .iter()
        .map(|v| json!({ "expected": v.expected, "actual": v.actual, "met": v.met }))
        .collect();
    let mut object = json!({
        "nodes": run.fleet.len(),
        "seconds": run.elapsed().as_secs_f64(),
        "seed": run.plan.seed,
        "connected": tallies.connected,
        "kicked": tallies.kicked,
        "killed": tallies.killed,
        "repeated": counters.repeated,
        "rejected": tallies.rejected,
        "no_answer": tallies.no_answer,
        "published": ledger.published(),
        "acknowledged": ledger.acknowledged,
        "given_up": ledger.given_up,
        "publishes_open": ledger.open_at_end,
        "requests_open": tallies.open,
        "received": tallies.received,
        "while_asleep": counters.while_asleep,
        "expectations": expectations,
    });
    if run.is_observed() {
        object["arrived"] = ledger.arrived.into();
        object["missing"] = ledger.missing().into();
        object["duplicates"] = ledger.duplicates.into();
        object["duplicates_qos2"] = ledger.duplicates_qos2.into();
        object["wills"] = ledger.wills_seen.iter().cloned().collect::<Vec<_>>().into();
        if let Some(times) = ledger.times.percentiles() {
            object["broker_ms"] = times.into();
        }
    }
    object
}

fn verdicts(run: &Run) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = run
        .plan
        .expectations
        .iter()
        .map(|e| verdict(run, e))
        .collect();
    if let Some(wanted) = &run.plan.wills {
        let mut wanted = wanted.clone();
        wanted.sort_unstable();
        let seen: Vec<&String> = run.ledger.wills_seen.iter().collect();
        verdicts.push(Verdict {
            expected: format!("will [{}]", wanted.join(", ")),
            actual: format!(
                "[{}]",
                seen.iter()
                    .map(|t| t.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            met: seen.into_iter().eq(wanted.iter()),
        });
    }
    verdicts
}

fn verdict(run: &Run, expectation: &Expectation) -> Verdict {
    let (ledger, tallies) = (&run.ledger, &run.tallies);
    let figure = expectation.figure;
    let actual = match figure {
        Figure::Delivered => ledger.delivered(),
        Figure::LostAcknowledged => Some(ledger.lost_acknowledged() as f64),
        Figure::Duplicates => Some(ledger.duplicates as f64),
        Figure::DuplicatesQos2 => Some(ledger.duplicates_qos2 as f64),
        Figure::Received => Some(tallies.received as f64),
        Figure::Rejected => Some(tallies.rejected as f64),
        Figure::NoAnswer => Some(tallies.no_answer as f64),
        Figure::WhileAsleep => Some(run.counters().while_asleep as f64),
        Figure::MaxLatencyP95 => ledger.times.percentiles().map(|times| times.p95),
    };
    Verdict {
        expected: expectation.to_string(),
        actual: match actual {
            Some(value) => figure.show(value),
            None if figure == Figure::Delivered => "nothing was published".into(),
            None => "nothing arrived".into(),
        },
        met: actual.is_some_and(|value| expectation.is_met(value)),
    }
}
