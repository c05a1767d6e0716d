//! The wall clock of a server, wrong.
//!
//! Linux has no wall clock of its own for a pod. What a program reads is what the vDSO tells it, code that the kernel maps
//! into every process; here that of a few processes, and of no other, is replaced by code that asks the
//! kernel and adds to the answer. Their binaries, their configuration and their monotonic clock stay as they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{AGENT, NAMED, Server};

/// The function that reads clocks.
const READ: &[u8] = b"__vdso_clock_gettime";
/// The type of a section with the symbols of a shared object.
const SYMBOLS: u32 = 11;

/// Clocks that are wrong until this is dropped.
#[derive(Debug)]
pub struct WrongClock(Vec<Patch>);

/// Code of one process and what it replaces.
#[derive(Debug)]
struct Patch {
    memory: File,
    at: u64,
    before: Vec<u8>,
}

impl Server {
    /// Sets the wall clock of named and agent ahead by so many seconds, or back by a negative number.
    pub fn set_clock(&self, ahead: i32) -> Result<WrongClock> {
        self.set_clock_of(&[AGENT, NAMED], ahead)
    }

    /// The same for these containers of the pod.
    pub fn set_clock_of(&self, containers: &[&str], ahead: i32) -> Result<WrongClock> {
        ensure!(cfg!(target_arch = "x86_64"), "clocks are set on x86-64 only");
        let patches =
            containers.iter().map(|container| Patch::make(self.process(container)?, &reader(ahead)));
        patches.collect::<Result<_>>().map(WrongClock)
    }
}

/// `clock_gettime` for x86-64: the system call; `ahead` is added for `CLOCK_REALTIME` (0) and its coarse sibling (5).
fn reader(ahead: i32) -> Vec<u8> {
    let call = [0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05]; // mov eax, 228; syscall
    let which = [0x85, 0xff, 0x74, 0x05, 0x83, 0xff, 0x05, 0x75, 0x07]; // edi is 0, or 5, or the next is skipped
    let add = [0x48, 0x81, 0x06]; // add qword [rsi], …
    [&call[..], &which, &add, &ahead.to_le_bytes(), &[0xc3]].concat()
}

impl Patch {
    fn make(pid: i32, code: &[u8]) -> Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).context("no vDSO")?;
        let range = line.split(' ').next().and_then(|range| range.split_once('-')).context("no range")?;
        let (start, end) = (u64::from_str_radix(range.0, 16)?, u64::from_str_radix(range.1, 16)?);
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(Path::new(&path)).context(path)?;
        let mut image = vec![0; usize::try_from(end - start)?];
        memory.read_exact_at(&mut image, start)?;
        let at = start + symbol(&image, READ)?;
        let mut before = vec![0; code.len()];
        memory.read_exact_at(&mut before, at)?;
        memory.write_all_at(code, at).context("the vDSO cannot be written")?;
        Ok(Self { memory, at, before })
    }
}

impl Drop for WrongClock {
    fn drop(&mut self) {
        for Patch { memory, at, before } in &self.0 {
            // A process that has ended has no clock.
            let _ = memory.write_all_at(before, *at);
        }
    }
}

/// A field of an ELF image.
fn field<const N: usize>(image: &[u8], at: u64) -> Result<[u8; N]> {
    let rest = image.get(usize::try_from(at)?..).and_then(|rest| rest.first_chunk());
    rest.copied().with_context(|| format!("an ELF image that ends before {at}"))
}

/// The address of a symbol of an ELF image of 64 bits, by its sections.
fn symbol(image: &[u8], wanted: &[u8]) -> Result<u64> {
    let long = |at| field(image, at).map(u64::from_le_bytes);
    let word = |at| field(image, at).map(u32::from_le_bytes);
    let sections = long(0x28)?;
    let size = u64::from(u16::from_le_bytes(field(image, 0x3a)?));
    let count = u64::from(u16::from_le_bytes(field(image, 0x3c)?));
    for section in (0..count).map(|number| sections + number * size) {
        if word(section + 4)? != SYMBOLS {
            continue;
        }
        let (symbols, length) = (long(section + 24)?, long(section + 32)?);
        let names = long(sections + u64::from(word(section + 40)?) * size + 24)?;
        for entry in (symbols..symbols + length).step_by(24) {
            let name = image.get(usize::try_from(names + u64::from(word(entry)?))?..).unwrap_or_default();
            if name.split(|octet| *octet == 0).next() == Some(wanted) {
                return long(entry + 8);
            }
        }
    }
    anyhow::bail!("no symbol {}", String::from_utf8_lossy(wanted))
}
