//! The Arduino sketch of docs/serial.md, compiled for this machine: what it writes our codec reads, and the
//! other way round, and a gateway gets its messages.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use mqtt_sn_gateway::links::framing::{Framing, Side};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::mqtt::Mqtt;
use crate::process::{Gateway, Mosquitto};
use crate::streams::{BOUNDS, drain, encode, publish};

/// Forwarder header of the sketch.
const HEADER: [u8; 5] = [5, 0xfe, 0, 0, 0x17];
/// Octets of a message and its header that fit into the sketch's buffer, whose last octet stays free.
const LARGEST: usize = 77;

/// What a board gives a sketch, on standard input and output; a second is 50 ms.
const BOARD: &str = r#"
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static uint8_t heard[4096];
static long heard_count, heard_used;
static bool ended;
static int available(void) {
  struct pollfd input = {0, POLLIN, 0};
  if (heard_used == heard_count && poll(&input, 1, 0) > 0) {
    heard_used = 0;
    heard_count = read(0, heard, sizeof heard);
    ended = heard_count == 0;
    if (heard_count < 0) heard_count = 0;
  }
  return heard_count - heard_used;
}
static int read_octet(void) { return heard[heard_used++]; }
static void write_octet(uint8_t octet) { while (write(1, &octet, 1) < 0 && errno == EAGAIN) usleep(100); }
static void begin(long baud) { (void)baud; }
static struct {
  int (*available)(void);
  int (*read)(void);
  void (*write)(uint8_t);
  void (*begin)(long);
} Serial = {available, read_octet, write_octet, begin};
static unsigned long millis(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (now.tv_sec * 1000UL + now.tv_nsec / 1000000UL) * 20;
}
static const int A0 = 0;
static int analogRead(int pin) { return pin == A0 ? 512 : 0; }
#include "sketch.h"
int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "run";
  if (strcmp(what, "run") == 0) {
    setup();
    for (;;) { loop(); usleep(500); }
  }
  while (!ended) {
    if (strcmp(what, "send") == 0) {
      uint8_t message[255], length;
      if (fread(&length, 1, 1, stdin) != 1) return 0;
      if (fread(message, 1, length, stdin) != length) return 1;
      sendFrame(message, length);
    } else {
      uint8_t length = receiveFrame();
      if (length == 0) continue;
      write_octet(length);
      for (uint8_t i = 0; i < length; i++) write_octet(in[i]);
    }
  }
  return 0;
}
"#;

/// The compiled sketch.
struct Board {
    directory: TempDir,
}

impl Board {
    fn build() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("sketch.h"), sketch()).expect("written");
        std::fs::write(directory.path().join("board.c"), BOARD).expect("written");
        let output = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Werror", "-o", "board", "board.c"])
            .current_dir(directory.path())
            .output()
            .expect("a C compiler");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self { directory }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.directory.path().join("board"));
        command.arg(what);
        command
    }

    /// Runs it to the end of its input.
    fn turn(&self, what: &str, input: Vec<u8>) -> Vec<u8> {
        let mut child = self
            .command(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || stdin.write_all(&input).expect("it reads"));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("written");
        assert!(output.status.success());
        output.stdout
    }
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/serial.md");
    std::fs::read_to_string(path).expect("the page")
}

fn sketch() -> String {
    let page = page();
    let (_, behind) = page.split_once("```cpp\n").expect("a sketch");
    let (sketch, _) = behind.split_once("```").expect("its end");
    sketch.to_owned()
}

/// Messages of all lengths that fit, with every octet somewhere, the special ones often.
fn messages(rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    (0..300)
        .map(|_| {
            let length = rng.usize(1..LARGEST - HEADER.len() - 7);
            let payload: Vec<u8> = std::iter::repeat_with(|| match rng.u8(..4) {
                0 => [0xc0, 0xdb, 0xdc, 0xdd][rng.usize(..4)],
                _ => rng.u8(..),
            })
            .take(length)
            .collect();
            publish(&payload)
        })
        .collect()
}

fn with_header(message: &[u8]) -> Vec<u8> {
    [&HEADER, message].concat()
}

#[test]
fn the_sketch_has_thirty_lines() {
    assert_eq!(sketch().lines().count(), 30);
}

#[test]
fn what_the_sketch_writes_is_read() {
    let board = Board::build();
    let messages = messages(&mut fastrand::Rng::with_seed(1));
    let mut input = Vec::new();
    for message in &messages {
        input.push(u8::try_from(message.len()).expect("short"));
        input.extend_from_slice(message);
    }
    let wire = board.turn("send", input);
    let mut codec = Framing::SlipCrc.codec(Side::Gateway, BOUNDS);
    let mut found = Vec::new();
    drain(codec.as_mut(), Instant::now(), &wire, &mut found);
    let sent: Vec<_> = messages.iter().map(|sent| Ok(with_header(sent))).collect();
    assert_eq!(found, sent);

    // The page shows the CONNECT of a board without a header.
    let connect = crate::hex::hex("0B 04 04 01 00 3C 6E 6F 64 65 31");
    let shown = encode(codec.as_ref(), &connect);
    let shown: Vec<_> = shown.iter().map(|octet| format!("{octet:02X}")).collect();
    assert!(page().contains(&format!("\n{}\n", shown.join(" "))));
}

/// Damage costs the sketch the frame it is in, and nothing else.
#[test]
fn the_sketch_reads_what_is_written_and_survives_noise() {
    let board = Board::build();
    let mut rng = fastrand::Rng::with_seed(2);
    let codec = Framing::SlipCrc.codec(Side::Gateway, BOUNDS);
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    for (index, message) in messages(&mut rng).iter().enumerate() {
        let content = with_header(message);
        let mut frame = encode(codec.as_ref(), &content);
        let last = frame.len() - 1;
        match index % 5 {
            0 => frame[rng.usize(1..last)] ^= 0x01,
            1 => {
                frame.remove(rng.usize(1..last));
            }
            // Nothing the buffer holds, and a good frame behind it.
            2 => {
                let mut flood = vec![0x55; 300];
                flood.push(0xdb);
                frame = [flood, frame].concat();
            }
            _ => {}
        }
        if index % 5 > 1 {
            expected.push(u8::try_from(content.len()).expect("short"));
            expected.extend_from_slice(&content);
        }
        wire.extend_from_slice(&frame);
    }
    assert_eq!(board.turn("receive", wire), expected);
}

/// A board at a serial port, killed when dropped.
struct Plugged {
    board: Child,
    link: PathBuf,
}

impl Plugged {
    fn new(board: &Board, link: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a pty");
        grantpt(&master).expect("a pty");
        unlockpt(&master).expect("a pty");
        let slave = ptsname(&master, Vec::new()).expect("a name");
        symlink(slave.to_str().expect("a path"), link).expect("a link");
        let stdin: OwnedFd = master.try_clone().expect("a descriptor");
        let board = board
            .command("run")
            .stdin(stdin)
            .stdout(master)
            .spawn()
            .expect("it starts");
        Self {
            board,
            link: link.to_owned(),
        }
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
        let _ = self.board.kill();
        let _ = self.board.wait();
    }
}

/// The sketch connects and publishes through a gateway, also after it was unplugged.
#[test]
fn the_sketch_publishes_through_a_gateway() {
    let board = Board::build();
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let device = directory.path().join("uno");
    let yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links:\n- {{type: udp, listen: ['127.0.0.1:0']}}\n\
         - {{type: serial, framing: slip-crc, addressing: forwarder, device: {}}}\n",
        mosquitto.port,
        device.display()
    );
    let gateway = Gateway::start(&yaml);
    let mut mqtt = Mqtt::connect(mosquitto.port, "watcher");
    mqtt.subscribe("a0", rumqttc::QoS::AtMostOnce);
    for _ in 0..2 {
        let plugged = Plugged::new(&board, &device);
        gateway.process.line("slip-crc: up: ").expect("it runs");
        for _ in 0..3 {
            assert_eq!(mqtt.message().payload, &b" 512"[..]);
        }
        drop(plugged);
        gateway.process.line("slip-crc: ").expect("it runs");
    }
}
