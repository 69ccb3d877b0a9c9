//! The devices a line can be opened on, and the open ones.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::devices;
use super::holder::Holder;
use super::port::{OpenError, Port, PortSettings};
use super::readiness;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which device: `device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A path, also a link to a pty.
    Path(PathBuf),
    /// `usb:VENDOR:PRODUCT[:SERIAL]`, hexadecimal ids.
    Usb {
        /// Vendor id.
        vendor: u16,
        /// Product id.
        product: u16,
        /// Serial number.
        serial: Option<String>,
    },
    /// `tcp://host:port`: a serial server in the network.
    Tcp {
        /// Host and port.
        address: String,
    },
}

/// The text names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a device; write a path such as /dev/serial/by-id/..., tcp://HOST:PORT, or usb:VENDOR:PRODUCT"
)]
pub struct UnknownDevice;

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text.strip_prefix("tcp://") {
            let (host, port) = address.rsplit_once(':').ok_or(UnknownDevice)?;
            return match port.parse::<u16>() {
                Ok(1..) if !host.is_empty() => Ok(Self::Tcp {
                    address: address.to_owned(),
                }),
                Ok(_) | Err(_) => Err(UnknownDevice),
            };
        }
        if let Some(ids) = text.strip_prefix("usb:") {
            let mut ids = ids.splitn(3, ':');
            let mut id = || u16::from_str_radix(ids.next().unwrap_or_default(), 16);
            return match (id(), id()) {
                (Ok(vendor), Ok(product)) => Ok(Self::Usb {
                    vendor,
                    product,
                    serial: ids.next().map(str::to_owned),
                }),
                _ => Err(UnknownDevice),
            };
        }
        if text.is_empty() || text.contains("://") {
            return Err(UnknownDevice);
        }
        Ok(Self::Path(text.into()))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Usb {
                vendor,
                product,
                serial,
            } => {
                write!(f, "usb:{vendor:04x}:{product:04x}")?;
                serial.iter().try_for_each(|serial| write!(f, ":{serial}"))
            }
            Self::Tcp { address } => write!(f, "tcp://{address}"),
        }
    }
}

impl Device {
    /// Whether it is reached through the network, where pauses between octets mean nothing.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Returns the path where the device appears.
    pub(super) fn place(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Usb { .. } => Some(Path::new("/dev/serial/by-id/any")),
            Self::Tcp { .. } => None,
        }
    }

    pub(super) async fn open(self, settings: PortSettings) -> Result<Stream, OpenError> {
        let path = match self {
            Self::Tcp { address } => return connect(address).await,
            Self::Path(path) => path,
            Self::Usb {
                vendor,
                product,
                ref serial,
            } => devices::find_usb(vendor, product, serial.as_deref())
                .unwrap_or_else(|| PathBuf::from(self.to_string())),
        };
        let other = |path: PathBuf, source| OpenError::Other { path, source };
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Port::open(&path, &settings)
        });
        let port = opened
            .await
            .map_err(|error| other(path.clone(), io::Error::other(error)))??;
        let port = readiness::watch(port).map_err(|error| other(path, error))?;
        Ok(Stream::Port(port))
    }
}

async fn connect(address: String) -> Result<Stream, OpenError> {
    let connected = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match connected {
        Ok(stream) => {
            // Without these a server that lost its power looks alive for hours.
            let socket = SockRef::from(&stream);
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(15))
                .with_interval(Duration::from_secs(5))
                .with_retries(3);
            let careful = socket
                .set_tcp_keepalive(&keepalive)
                .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(20))))
                .and_then(|()| socket.set_tcp_nodelay(true));
            if let Err(error) = careful {
                tracing::debug!(%error, "a dead serial server will be noticed late");
            }
            Ok(Stream::Tcp(stream))
        }
        Err(source) => Err(OpenError::Unreachable { address, source }),
    }
}

/// An open line.
#[derive(Debug)]
pub(super) enum Stream {
    Port(AsyncFd<Port>),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Port(port) => port.readable().await.map(|mut guard| guard.retain_ready()),
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Port(port) => port.writable().await.map(|mut guard| guard.retain_ready()),
            Self::Tcp(stream) => stream.writable().await,
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Port(port) => port.try_io(Interest::READABLE, |port| port.read(buffer)),
            Self::Tcp(stream) => stream.try_read(buffer),
        }
    }

    pub(super) fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Port(port) => port.try_io(Interest::WRITABLE, |port| port.write(octets)),
            Self::Tcp(stream) => stream.try_write(octets),
        }
    }

    pub(super) fn also_open(&self) -> Option<&Holder> {
        match self {
            Self::Port(port) => port.get_ref().also_open(),
            Self::Tcp(_) => None,
        }
    }

    pub(super) fn discard(&self) {
        match self {
            Self::Port(port) => port.get_ref().discard(),
            Self::Tcp(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A serial server that lost its power looks alive for hours, unless the system asks.
    #[tokio::test]
    async fn a_server_in_the_network_is_watched() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let Ok(Stream::Tcp(stream)) = connect(address).await else {
            panic!("somebody listens");
        };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("readable"));
        assert_eq!(
            (
                socket.tcp_keepalive_time().expect("readable"),
                socket.tcp_keepalive_interval().expect("readable"),
                socket.tcp_keepalive_retries().expect("readable"),
                socket.tcp_user_timeout().expect("readable"),
                socket.tcp_nodelay().expect("readable"),
            ),
            (
                Duration::from_secs(15),
                Duration::from_secs(5),
                3,
                Some(Duration::from_secs(20)),
                true
            )
        );
    }
}
