//! The table of faults names tests that exist.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_table_of_faults_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/reliability.md")).expect("the table");
    let mut checked = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && line.contains(".rs` `")) {
        let last = line.trim_end_matches(" |").rsplit("| ").next().expect("a last column");
        let (file, name) = last.trim_matches('`').split_once("` `").expect("file and test");
        let source = fs::read_to_string(root.join("tests").join(file));
        let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "{file} has no {name}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} tests are named");
}
