//! The wire to the broker, which gets cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::Disk;

/// A TCP relay in front of the broker: what the broker says passes once it is saved.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    disk: Disk,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub(crate) fn start(broker: u16, disk: Disk) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Self {
            port: listener.local_addr()?.port(),
            disk,
            streams: Arc::default(),
        };
        let ours = relay.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A broker that is down is the gateway's to bear.
                let _ = ours.join(stream, broker);
            }
        });
        Ok(relay)
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn join(&self, client: TcpStream, broker: u16) -> io::Result<()> {
        let life = self.disk.life();
        let broker = TcpStream::connect(("127.0.0.1", broker))?;
        for stream in [&client, &broker] {
            stream.set_nodelay(true)?;
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(stream.try_clone()?);
        }
        let (mut to_broker, mut to_client) = (broker.try_clone()?, client.try_clone()?);
        let disk = self.disk.clone();
        std::thread::spawn(move || {
            copy(&client, |octets| to_broker.write_all(octets));
            let _ = to_broker.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            copy(&broker, |octets| {
                disk.once_saved(life, || to_client.write_all(octets))
            });
            let _ = to_client.shutdown(Shutdown::Both);
        });
        Ok(())
    }
}

/// Passes on what comes until either end is gone.
fn copy(mut from: &TcpStream, mut pass_on: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut octets = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut octets) {
        if pass_on(&octets[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
}
