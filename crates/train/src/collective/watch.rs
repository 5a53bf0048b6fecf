//! Notices a rank that has died.
//!
//! Exchanges of a rank that is gone never end, and the GPUs spin. So every rank keeps a
//! connection to rank 0, and says now and then that it is there. The system closes the
//! connections of a process that dies, whatever the reason; a host that dies falls silent.
//! Rank 0 tells the others which rank is lost, and each process ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::TrainError;

/// Seconds between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// What a watching rank does about a loss.
type Act = Arc<dyn Fn(&str) + Send + Sync>;

/// A rank's part in the watch.
#[derive(Debug)]
pub struct Watch {
    own: Option<Arc<Mutex<TcpStream>>>,
    table: Arc<Table>,
}

/// What rank 0 knows of the others, and every rank of itself.
#[derive(Debug, Default)]
struct Table {
    /// Ranks that have said goodbye.
    gone: Mutex<u64>,
    changed: Condvar,
    leaving: Mutex<bool>,
}

impl Table {
    fn leaving(&self) -> bool {
        self.leaving.lock().is_ok_and(|leaving| *leaving)
    }
}

/// Says which rank is lost and ends the process at once: device and threads may hang.
fn end(message: &str) {
    tracing::error!("{message}");
    signal_hook::low_level::exit(1);
}

fn lost(rank: u64, why: &str) -> String {
    format!(
        "rank {rank} {why}, so all ranks stop; its own messages say more. Continue from the \
         last checkpoint with --resume auto, on any number of ranks"
    )
}

impl Watch {
    /// Rank 0: waits for all others to attend, in the background; returns the port too.
    ///
    /// # Errors
    ///
    /// There is no port to be had.
    pub fn serve(world: u64, timeout: Duration) -> Result<(Self, u16), TrainError> {
        Self::serve_with(world, timeout, Arc::new(end))
    }

    fn serve_with(world: u64, timeout: Duration, act: Act) -> Result<(Self, u16), TrainError> {
        let fail = |error: std::io::Error| TrainError::Ranks(format!("watching ranks: {error}"));
        let listener = TcpListener::bind(("0.0.0.0", 0)).map_err(fail)?;
        let port = listener.local_addr().map_err(fail)?.port();
        let table = Arc::new(Table::default());
        let shared = Arc::clone(&table);
        thread::spawn(move || {
            let all: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
            for _ in 1..world {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                if let (Ok(mut all), Ok(copy)) = (all.lock(), stream.try_clone()) {
                    all.push(copy);
                }
                let (all, table) = (Arc::clone(&all), Arc::clone(&shared));
                let act = Arc::clone(&act);
                thread::spawn(move || attendant(stream, &all, &table, timeout, &act));
            }
            beat(&all, &shared);
        });
        Ok((Self { own: None, table }, port))
    }

    /// Any other rank: attends at the address that rank 0 serves.
    ///
    /// # Errors
    ///
    /// Rank 0 cannot be reached.
    pub fn attend(address: &str, rank: u64, timeout: Duration) -> Result<Self, TrainError> {
        Self::attend_with(address, rank, timeout, Arc::new(end))
    }

    fn attend_with(
        address: &str,
        rank: u64,
        timeout: Duration,
        act: Act,
    ) -> Result<Self, TrainError> {
        let fail = |error: std::io::Error| {
            TrainError::Ranks(format!(
                "rank {rank} cannot reach rank 0 at {address}: {error}"
            ))
        };
        let mut stream = TcpStream::connect(address).map_err(fail)?;
        stream
            .write_all(format!("rank {rank}\n").as_bytes())
            .map_err(fail)?;
        let own = Arc::new(Mutex::new(stream.try_clone().map_err(fail)?));
        let table = Arc::new(Table::default());
        let (shared, mine) = (Arc::clone(&table), Arc::clone(&own));
        thread::spawn(move || {
            // Rank 0 speaks of a loss, says goodbye, or is lost itself.
            match next(&stream, timeout, &mut BufReader::new(&stream)) {
                Word::Loss(message) => act(&message),
                Word::Goodbye => {}
                _ if shared.leaving() => {}
                Word::Silence => act(&lost(0, &silent(timeout))),
                _ => act(&lost(0, "has ended")),
            }
        });
        let leaving = Arc::clone(&table);
        thread::spawn(move || {
            while !leaving.leaving() {
                thread::sleep(BEAT);
                let sent = mine.lock().map(|mut own| own.write_all(b"here\n"));
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Self {
            own: Some(own),
            table,
        })
    }

    /// Says goodbye; rank 0 waits until all have, for some seconds.
    pub fn leave(self) {
        if let Ok(mut leaving) = self.table.leaving.lock() {
            *leaving = true;
        }
        if let Some(own) = &self.own
            && let Ok(mut own) = own.lock()
        {
            let _ = own.write_all(b"bye\n");
        }
    }

    /// Rank 0: waits until `count` ranks have said goodbye, for `limit` at most.
    pub fn wait_for(&self, count: u64, limit: Duration) {
        let until = Instant::now() + limit;
        let Ok(mut gone) = self.table.gone.lock() else {
            return;
        };
        while *gone < count {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((next, waited)) = self.table.changed.wait_timeout(gone, left) else {
                return;
            };
            if waited.timed_out() {
                return;
            }
            gone = next;
        }
    }
}

fn silent(timeout: Duration) -> String {
    format!("has not been heard of for {} s", timeout.as_secs())
}

/// What comes over a connection.
#[derive(Debug, PartialEq)]
enum Word {
    Goodbye,
    Loss(String),
    Silence,
    End,
}

/// Reads past signs of life to the next word that matters.
fn next(stream: &TcpStream, timeout: Duration, lines: &mut impl BufRead) -> Word {
    let _ = stream.set_read_timeout(Some(timeout.max(2 * BEAT)));
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return Word::End,
            Ok(_) if line.trim() == "here" => {}
            Ok(_) if line.trim() == "bye" => return Word::Goodbye,
            Ok(_) => {
                let message = line.trim().strip_prefix("lost ").map(str::to_owned);
                return message.map_or(Word::End, Word::Loss);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                return Word::Silence;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Word::End,
        }
    }
}

/// Rank 0's ear for one rank.
fn attendant(
    stream: TcpStream,
    all: &Mutex<Vec<TcpStream>>,
    table: &Table,
    timeout: Duration,
    act: &Act,
) {
    let mut lines = BufReader::new(&stream);
    let mut first = String::new();
    let _ = lines.read_line(&mut first);
    let Some(rank) = first
        .trim()
        .strip_prefix("rank ")
        .and_then(|rank| rank.parse().ok())
    else {
        return;
    };
    let why = match next(&stream, timeout, &mut lines) {
        Word::Goodbye => {
            if let Ok(mut gone) = table.gone.lock() {
                *gone += 1;
                table.changed.notify_all();
            }
            return;
        }
        Word::Silence => silent(timeout),
        _ => "has ended".to_owned(),
    };
    let message = lost(rank, &why);
    if let Ok(mut all) = all.lock() {
        for stream in all.iter_mut() {
            let _ = stream.write_all(format!("lost {message}\n").as_bytes());
        }
    }
    act(&message);
}

/// Rank 0's signs of life.
fn beat(all: &Mutex<Vec<TcpStream>>, table: &Table) {
    while !table.leaving() {
        thread::sleep(BEAT);
        if let Ok(mut all) = all.lock() {
            for stream in all.iter_mut() {
                let _ = stream.write_all(b"here\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn ear() -> (Act, Receiver<String>) {
        let (send, heard) = channel();
        let send = Mutex::new(send);
        let act: Act = Arc::new(move |message: &str| {
            let _ = send.lock().unwrap().send(message.to_owned());
        });
        (act, heard)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn the_rank_that_is_lost_is_named_on_all_others() {
        let (act, zero) = ear();
        let (_watch, port) = Watch::serve_with(3, SOON, act).unwrap();
        let address = format!("127.0.0.1:{port}");
        let (act, two) = ear();
        let _two = Watch::attend_with(&address, 2, SOON, act).unwrap();
        // A rank that speaks once and dies.
        let mut one = TcpStream::connect(&address).unwrap();
        one.write_all(b"rank 1\nhere\n").unwrap();
        drop(one);
        for heard in [&zero, &two] {
            let message = heard.recv_timeout(SOON).unwrap();
            assert!(message.starts_with("rank 1 has ended"), "{message}");
        }
    }

    #[test]
    fn the_loss_of_rank_0_is_noticed_and_a_goodbye_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (act, heard) = ear();
        let _watch = Watch::attend_with(&address, 1, SOON, act).unwrap();
        drop(listener.accept().unwrap());
        let message = heard.recv_timeout(SOON).unwrap();
        assert!(message.starts_with("rank 0 has ended"), "{message}");

        let (act, zero) = ear();
        let (watch, port) = Watch::serve_with(2, SOON, act).unwrap();
        let (act, one) = ear();
        let other = Watch::attend_with(&format!("127.0.0.1:{port}"), 1, SOON, act).unwrap();
        other.leave();
        watch.wait_for(1, SOON);
        assert_eq!(*watch.table.gone.lock().unwrap(), 1);
        assert!(zero.try_recv().is_err() && one.try_recv().is_err());
    }
}
