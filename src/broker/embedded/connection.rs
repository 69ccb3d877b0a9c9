//! The TCP connection of one MQTT client, between its octets and the router's packets.

use std::future::ready;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::Notification;
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::{ConnAck, ConnectReturnCode, Error, Packet, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Largest MQTT packet: the longest MQTT-SN payload, its topic name and headers, with room to spare.
const PACKET_MAX: usize = 256 * 1024;
/// Octets of the read buffer, and the room in it below which it gets another.
const READ_BUFFER: usize = 4096;
const READ_ROOM: usize = 1024;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By DISCONNECT.
    Goodbye,
    /// In any other way.
    Lost,
}

pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    unsent: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Without it an acknowledgement may wait 40 ms for the one before.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
        }
    }

    /// Refuses a CONNECT.
    pub(super) async fn refuse(&mut self, code: ConnectReturnCode) {
        let refusal = ConnAck {
            session_present: false,
            code,
        };
        if self.queue(Packet::ConnAck(refusal, None)).is_ok() {
            // The client is told so far as it listens.
            let _ = self.flush().await;
        }
    }

    /// Carries packets between the client and the router until one of them ends it, or the client is
    /// silent for too long. May be cancelled, which ends it as well.
    pub(super) async fn converse(
        &mut self,
        tx: &mut LinkTx,
        rx: &mut LinkRx,
        accepted: Notification,
        silence_max: Duration,
    ) -> End {
        let mut silence = pin!(sleep(silence_max));
        let mut said = Ok(Some(accepted));
        loop {
            let told = timeout(silence_max, self.tell(rx, said)).await;
            if !matches!(told, Ok(Ok(()))) {
                return End::Lost;
            }
            said = loop {
                tokio::select! {
                    packet = self.read() => match packet {
                        Ok(Packet::Disconnect(..)) => return End::Goodbye,
                        Ok(Packet::Connect(..)) | Err(_) => return End::Lost,
                        Ok(packet) => {
                            if tx.send(packet).await.is_err() {
                                return End::Lost;
                            }
                            silence.as_mut().reset(Instant::now() + silence_max);
                        }
                    },
                    said = rx.next() => break said,
                    () = &mut silence => return End::Lost,
                }
            };
        }
    }

    /// Sends what the router said, and what else it has to say now.
    async fn tell(
        &mut self,
        rx: &mut LinkRx,
        said: Result<Option<Notification>, LinkError>,
    ) -> io::Result<()> {
        let mut next = Some(said);
        let mut waits = false;
        while let Some(said) = next {
            // An error is the router's way of hanging up.
            if let Some(notification) = said.map_err(io::Error::other)? {
                match Option::<Packet>::from(notification) {
                    Some(packet) => self.queue(packet)?,
                    None => waits = true,
                }
            }
            next = tokio::select! {
                biased;
                said = rx.next() => Some(said),
                () = ready(()) => None,
            };
        }
        self.flush().await?;
        if waits {
            rx.wake().await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Reads the next packet. May be cancelled.
    pub(super) async fn read(&mut self) -> io::Result<Packet> {
        loop {
            match V4.read_mut(&mut self.received, PACKET_MAX) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            self.stream.readable().await?;
            if self.received.capacity() - self.received.len() < READ_ROOM {
                self.received.reserve(READ_BUFFER);
            }
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn queue(&mut self, packet: Packet) -> io::Result<()> {
        let written = V4.write(packet, &mut self.unsent);
        written.map(|_| ()).map_err(io::Error::other)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.unsent).await?;
        // Gives the memory back: most connections are idle most of the time.
        self.unsent = BytesMut::new();
        Ok(())
    }
}
