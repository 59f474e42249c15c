//! Writes the replies that transcripts lack, as a server gives them.
//!
//! `transcript-fill [--ours] FILE…` starts the oracle (or our server) for each
//! file, plays it, and writes a reply under each command that has none. What
//! it wrote is to be read before it is committed: the oracle is 7.0, ours 7.2.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::ExitCode;

use holdfast_tests::server::{Kind, Server};
use holdfast_tests::transcript::Transcript;
use holdfast_tests::transcript::run::{Socket, play};

fn main() -> ExitCode {
    let mut kind = Kind::Oracle;
    let mut failed = false;
    for arg in std::env::args().skip(1) {
        if arg == "--ours" {
            kind = Kind::Ours;
            continue;
        }
        match fill(kind, Path::new(&arg)) {
            Ok(true) => {}
            Ok(false) => failed = true,
            Err(e) => {
                println!("{e}");
                failed = true;
            }
        }
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn fill(kind: Kind, path: &Path) -> Result<bool, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("?");
    let transcript = Transcript::parse(name, &text)?;
    let args: Vec<_> = transcript.server_args.iter().map(String::as_str).collect();
    let server = Server::start(kind, &args);
    let outcome = play(&transcript, kind, &mut Socket::new(&server));
    let mut out = String::with_capacity(text.len() * 2);
    for (at, line) in text.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        if let Some(reply) = outcome.filled.get(&(at + 1)) {
            out.push_str(reply);
            out.push('\n');
        }
    }
    if out != text {
        std::fs::write(path, out).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let wrong: Vec<_> =
        outcome.failures.iter().filter(|f| !f.want.starts_with("(nothing is written")).collect();
    for failure in &wrong {
        println!("{failure}");
    }
    println!(
        "{name}: {} checked, {} filled in, {} wrong",
        outcome.checked,
        outcome.filled.len(),
        wrong.len()
    );
    Ok(wrong.is_empty())
}
