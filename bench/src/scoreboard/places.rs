//! Where things are: the cores, the systems, the directories; and whether this is a place to measure.

use std::fs;
use std::path::{Path, PathBuf};

use super::machine;
use super::options::Options;
use super::systems::{self, System};

/// Of others, before anything runs: the machine is not quiet.
const LOAD_AVERAGE_MAX: f64 = 0.5;

pub fn choose_cores(options: &Options) -> Result<(usize, usize), String> {
    let cores = machine::cores();
    if cores.len() < 2 {
        return Err(format!(
            "the server needs one core and the client another, and this process may use {}",
            cores.len()
        ));
    }
    let server = options.server_core.unwrap_or_else(|| {
        let is_free = |core: &&usize| Some(**core) != options.client_core;
        cores.iter().find(is_free).copied().unwrap_or(cores[0])
    });
    let client = options
        .client_core
        .unwrap_or_else(|| cores.iter().find(|core| **core != server).copied().unwrap_or(cores[1]));
    for core in [server, client] {
        if !cores.contains(&core) {
            return Err(format!("there is no core {core} to be used, only {cores:?}"));
        }
    }
    if server == client {
        return Err("the server and the client need a core each".to_owned());
    }
    Ok((server, client))
}

pub fn warn_of_noise() {
    if cfg!(debug_assertions) {
        eprintln!("warning: a debug build; its figures mean nothing (build with --release)");
    }
    if let Some(load) = machine::load_average()
        && load > LOAD_AVERAGE_MAX
    {
        eprintln!(
            "warning: others use this machine (load average {load:.1}); rounds that they disturb \
             are marked and repeated"
        );
    }
}

/// All systems; without a list of peers only tightloop, and why.
pub fn known_systems(options: &Options) -> Result<(Vec<System>, Option<String>), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let own = own.with_file_name("tightloop-system");
    let peers = options.peers.clone().or_else(|| find_above(Path::new("bench/peers/peers.json")));
    match peers {
        Some(peers) => {
            let peers = peers.canonicalize().unwrap_or(peers);
            Ok((systems::all_systems(&peers, &own)?, None))
        }
        None => {
            let problem = "no bench/peers/peers.json here or above; give --peers".to_owned();
            Ok((systems::tightloop_systems(&own), Some(problem)))
        }
    }
}

/// The directory of a file that is here or in a directory above.
fn find_above(file: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let found = here.ancestors().map(|up| up.join(file)).find(|path| path.is_file())?;
    found.parent().map(Path::to_owned)
}

pub fn out_directory(options: &Options) -> PathBuf {
    let default = if options.quick { "target/scoreboard" } else { "docs/performance" };
    options.out.clone().unwrap_or_else(|| PathBuf::from(default))
}

/// Beside the program, among other build products: logs are of no use to anybody else.
pub fn logs_directory() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let logs = own.with_file_name("scoreboard-logs").join(std::process::id().to_string());
    fs::create_dir_all(&logs)
        .map_err(|error| format!("{} cannot be made: {error}", logs.display()))?;
    Ok(logs)
}

pub fn load_program(options: &Options) -> Result<PathBuf, String> {
    match &options.load_program {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().map_err(|error| error.to_string()),
    }
}

/// The command as it can be given again: the program by its name alone.
pub fn command_line() -> String {
    let arguments = std::env::args().skip(1);
    std::iter::once("tightloop-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}
