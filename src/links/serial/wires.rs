//! What only the driver of a port can do, by ioctl: its modem lines, and how long it keeps octets.

use std::os::fd::AsFd;

use nix::libc::{TIOCGSERIAL, TIOCM_DTR, TIOCM_RTS, TIOCMBIS, TIOCSSERIAL};
use rustix::io;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl};

const MODEM_LINES_ON: Opcode = TIOCMBIS as Opcode;
const READ_SERIAL: Opcode = TIOCGSERIAL as Opcode;
const WRITE_SERIAL: Opcode = TIOCSSERIAL as Opcode;
const ASYNC_LOW_LATENCY: i32 = 1 << 13;

/// `struct serial_struct` of linux/serial.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct SerialStruct {
    kind: i32,
    line: i32,
    port: u32,
    irq: i32,
    flags: i32,
    xmit_fifo_size: i32,
    custom_divisor: i32,
    baud_base: i32,
    close_delay: u16,
    io_type: u8,
    reserved: u8,
    hub6: i32,
    closing_wait: u16,
    closing_wait2: u16,
    iomem_base: usize,
    iomem_reg_shift: u16,
    port_high: u32,
    iomap_base: usize,
}

/// Switches DTR and RTS on, both in one step: boards with an ESP32 restart into their loader when one changes
/// before the other. USB boards without a UART send nothing until DTR is on.
///
/// # Errors
/// The port has no such lines, as a pty, or is gone.
#[expect(unsafe_code, reason = "rustix has no wrapper for TIOCMBIS")]
pub(super) fn lines_on(port: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCMBIS reads one int.
    unsafe {
        ioctl(
            port,
            Setter::<MODEM_LINES_ON, i32>::new(TIOCM_DTR | TIOCM_RTS),
        )
    }
}

/// Asks the driver to hand over what it receives at once; FTDI chips wait 16 ms else.
///
/// # Errors
/// The port cannot, or may not.
#[expect(
    unsafe_code,
    reason = "rustix has no wrapper for TIOCGSERIAL and TIOCSSERIAL"
)]
pub(super) fn low_latency(port: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCGSERIAL fills the whole struct, for which any bits are good.
    let mut serial = unsafe { ioctl(&port, Getter::<READ_SERIAL, SerialStruct>::new()) }?;
    serial.flags |= ASYNC_LOW_LATENCY;
    // SAFETY: TIOCSSERIAL reads the struct, which is as the driver gave it but for one flag.
    unsafe { ioctl(&port, Setter::<WRITE_SERIAL, SerialStruct>::new(serial)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_struct_is_as_large_as_the_kernel_writes_it() {
        assert_eq!(size_of::<SerialStruct>(), 72);
    }

    /// A pty has neither modem lines nor a driver with settings; it says so, and nothing else happens.
    #[test]
    fn a_port_without_them_refuses() {
        let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).expect("a pty");
        assert!(lines_on(&master).is_err());
        assert!(low_latency(&master).is_err());
    }
}
