//! Starts the ranks of one host, and ends them together.

use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{TrainError, signals};

/// Variable that says to a process that it is a rank that [`launch`] started.
pub const LAUNCHED: &str = "CISTRON_LAUNCHED";

/// How long the other ranks have to end by themselves after one has failed.
const GRACE: Duration = Duration::from_secs(15);

/// How the ranks ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All with status 0.
    Done,
    /// By a signal to this process, which they were told of.
    Signal(i32),
}

/// A rank with its process.
struct Rank {
    child: Child,
    status: Option<ExitStatus>,
}

/// Runs `ranks` processes that `command` makes, each as one rank, and waits for all.
///
/// Ctrl-C and SIGTERM are passed on to all, once each. When a rank fails the others have some
/// seconds to notice, and are killed then; they end too when this process dies.
///
/// # Errors
///
/// A process cannot be started, or has failed: the error names the rank.
pub fn launch(ranks: u64, command: &dyn Fn() -> Command) -> Result<Ended, TrainError> {
    launch_with(ranks, command, &signals::pending, GRACE)
}

fn launch_with(
    ranks: u64,
    command: &dyn Fn() -> Command,
    pending: &dyn Fn() -> Option<i32>,
    grace: Duration,
) -> Result<Ended, TrainError> {
    let fail = |error: std::io::Error| TrainError::Ranks(format!("ranks cannot start: {error}"));
    signals::install().map_err(fail)?;
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map_err(fail)?
        .port();
    let mut all: Vec<Rank> = Vec::new();
    for rank in 0..ranks {
        let child = command()
            .env(LAUNCHED, "1")
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", ranks.to_string())
            .env("LOCAL_WORLD_SIZE", ranks.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env_remove("TORCHELASTIC_USE_AGENT_STORE")
            // They end when the other end of the pipe closes.
            .stdin(Stdio::piped())
            // Ctrl-C on a terminal reaches this process alone, which passes it on once.
            .process_group(0)
            .spawn();
        match child {
            Ok(child) => all.push(Rank {
                child,
                status: None,
            }),
            Err(error) => {
                end(&mut all);
                return Err(fail(error));
            }
        }
    }
    let result = wait(&mut all, pending, grace);
    end(&mut all);
    result
}

/// Waits until all have ended, or one has failed and the time of grace is over.
fn wait(
    all: &mut [Rank],
    pending: &dyn Fn() -> Option<i32>,
    grace: Duration,
) -> Result<Ended, TrainError> {
    let mut told = None;
    let mut failed: Option<(usize, ExitStatus, Instant)> = None;
    loop {
        if let Some(signal) = pending().filter(|_| told.is_none()) {
            told = Some(signal);
            tell(all, signal);
        }
        let mut ended: Vec<(usize, ExitStatus)> = Vec::new();
        for (rank, process) in all.iter_mut().enumerate() {
            if process.status.is_none()
                && let Ok(Some(status)) = process.child.try_wait()
            {
                process.status = Some(status);
                ended.push((rank, status));
            }
        }
        // A rank that was killed has taken those with it that ended by themselves meanwhile.
        ended.sort_by_key(|(_, status)| status.signal().is_none());
        let bad = |status: &ExitStatus| !status.success();
        if failed.is_none() {
            let first = ended.iter().find(|(_, status)| bad(status));
            failed = first.map(|&(rank, status)| (rank, status, Instant::now()));
        }
        let left = all
            .iter()
            .filter(|process| process.status.is_none())
            .count();
        match failed {
            Some((rank, status, since)) if left == 0 || since.elapsed() > grace => {
                return match told {
                    Some(signal) if all.iter().all(|process| stopped_by(process, signal)) => {
                        Ok(Ended::Signal(signal))
                    }
                    _ => Err(TrainError::Ranks(format!(
                        "rank {rank} {}, and the run with it; continue from the last \
                         checkpoint with --resume auto, on any number of ranks",
                        how(status)
                    ))),
                };
            }
            None if left == 0 => return Ok(Ended::Done),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn stopped_by(process: &Rank, signal: i32) -> bool {
    let status = process.status;
    status.is_some_and(|status| {
        let by = status.code() == Some(128 + signal) || status.signal() == Some(signal);
        by || status.success()
    })
}

fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".into(),
    }
}

/// Sends a signal to all that still run.
fn tell(all: &[Rank], signal: i32) {
    let name = match signal {
        signal_hook::consts::SIGINT => "INT",
        _ => "TERM",
    };
    for process in all.iter().filter(|process| process.status.is_none()) {
        send(name, &process.child.id().to_string());
    }
}

/// Kills what still runs, with all that it has started, and waits for it.
fn end(all: &mut [Rank]) {
    for process in all.iter_mut().filter(|process| process.status.is_none()) {
        // Each rank leads a process group.
        send("KILL", &format!("-{}", process.child.id()));
        let _ = process.child.kill();
        let _ = process.child.wait();
    }
}

/// Sends the signal `name` to a process, or to the group of a negative number, as the shell
/// does it.
fn send(name: &str, to: &str) {
    let script = format!("kill -s {name} -- {to}");
    let _ = Command::new("sh").args(["-c", &script]).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &'static str) -> impl Fn() -> Command {
        move || {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdout(Stdio::null());
            command
        }
    }

    fn go(script: &'static str, signal: Option<i32>) -> Result<Ended, String> {
        let grace = Duration::from_millis(200);
        launch_with(3, &shell(script), &|| signal, grace).map_err(|error| error.to_string())
    }

    #[test]
    fn every_rank_knows_its_place() {
        let script = "test $WORLD_SIZE = 3 && test $RANK = $LOCAL_RANK && test -n $MASTER_PORT";
        assert_eq!(go(script, None), Ok(Ended::Done));
    }

    #[test]
    fn the_rank_that_fails_is_named_and_the_others_end() {
        let started = Instant::now();
        let error = go("test $RANK = 1 && exit 7; sleep 100", None).unwrap_err();
        assert!(error.starts_with("rank 1 ended with status 7"), "{error}");
        let error = go("test $RANK = 2 && kill -9 $$; sleep 100", None).unwrap_err();
        assert!(error.starts_with("rank 2 was ended by SIGKILL"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_signal_is_passed_on() {
        let script = "trap 'exit 143' TERM; while :; do sleep 0.1; done";
        assert_eq!(go(script, Some(15)), Ok(Ended::Signal(15)));
    }
}
