//! Gives a Rust peer the line that its --version prints: the framework as it is locked, the compiler.

use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::var("CARGO_MANIFEST_DIR")?;
    let package = std::env::var("CARGO_PKG_NAME")?;
    let framework = package.strip_prefix("peer-").ok_or("a peer is called peer-NAME")?;
    let lock = Path::new(&directory).join("Cargo.lock");
    let text = std::fs::read_to_string(&lock)?;
    let start = format!("name = \"{framework}\"\nversion = \"");
    let (_, after) = text.split_once(&start).ok_or("the framework is not locked")?;
    let version = after.split('"').next().ok_or("the version does not end")?;
    let compiler = Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    let compiler = String::from_utf8(compiler.stdout)?;
    println!("cargo::rustc-env=PEER_VERSION={framework} {version}, {}", compiler.trim());
    println!("cargo::rerun-if-changed={}", lock.display());
    Ok(())
}
