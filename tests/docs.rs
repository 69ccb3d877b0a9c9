//! The documents say what is there: tests they name exist, readings have a row and a text, settings
//! they name are settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_row_of_the_conformance_table_names_tests_that_exist() {
    let tests = tests_of_the_project();
    for (clause, cell) in conformance_rows() {
        if let Some(reason) = cell.strip_prefix("no test: ") {
            assert!(reason.len() > 20, "{clause} does not say why");
            continue;
        }
        let mut names = cell.split_whitespace().peekable();
        assert!(names.peek().is_some(), "{clause} names no test");
        for name in names {
            let name = name.trim_matches('`');
            assert!(tests.contains(name), "{clause}: there is no test {name:?}");
        }
    }
}

/// The rules of ports, the defects of Paho's transport and the common troubles are all there, in order.
#[test]
fn every_point_about_serial_ports_has_a_row() {
    let rows = conformance_rows();
    let numbered = rows.iter().filter_map(|(clause, _)| {
        let number = clause.split(' ').next()?;
        number.parse::<u32>().ok()
    });
    let numbers: Vec<u32> = numbered.collect();
    let expected: Vec<u32> = (1..=10).chain(1..=15).chain(1..=18).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn every_reading_has_a_text_and_a_row() {
    let text = read("docs/interpretations.md");
    let rows = conformance_rows();
    for number in 1..=42 {
        let reading = format!("I-{number:02}");
        assert!(
            text.contains(&format!("\n### {reading} ")),
            "{reading} has no text"
        );
        assert!(
            rows.iter().any(|(clause, _)| *clause == reading),
            "{reading} has no row"
        );
    }
}

/// Settings appear as `section.key`; gateway.yaml has every key, some of them commented out.
#[test]
fn the_readings_name_settings_that_exist() {
    let yaml = read("gateway.yaml");
    let text = read("docs/interpretations.md");
    let sections = [
        "gateway", "broker", "links", "topics", "clients", "limits", "log",
    ];
    let mut checked = 0;
    for code in text.split('`').skip(1).step_by(2) {
        let Some((section, key)) = code.split_once('.') else {
            continue;
        };
        let key = key.split(':').next().unwrap_or(key);
        if sections.contains(&section) {
            let is_line = |line: &str| {
                line.trim_start_matches([' ', '#', '-'])
                    .starts_with(&format!("{key}:"))
            };
            assert!(yaml.lines().any(is_line), "gateway.yaml has no {code}");
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} settings found");
}

/// First and last cell of every row.
fn conformance_rows() -> Vec<(String, String)> {
    let rows: Vec<_> = read("docs/conformance.md")
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| {
            !matches!(
                cells[0],
                "clause" | "reading" | "stack" | "bug" | "rule" | "defect" | "trouble" | "---"
            )
        })
        .map(|cells| {
            assert_eq!(cells.len(), 3, "{cells:?}");
            (cells[0].to_owned(), cells[2].to_owned())
        })
        .collect();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    rows
}

fn tests_of_the_project() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests", "tools/mqtt-sn"] {
        collect_tests(&root().join(folder), &mut names);
    }
    names
}

fn collect_tests(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            collect_tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file is text");
            let mut is_test = false;
            for line in source.lines().map(str::trim) {
                let function = line.trim_start_matches("async ").strip_prefix("fn ");
                match function {
                    Some(signature) if is_test => {
                        let end = signature.find('(').unwrap_or(signature.len());
                        names.insert(signature[..end].to_owned());
                        is_test = false;
                    }
                    Some(_) => is_test = false,
                    None if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => {
                        is_test = true;
                    }
                    None => {}
                }
            }
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
