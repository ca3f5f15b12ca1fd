//! What firmware can ask `fw_cfg` for: items by their numbers, and among them files by their names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Error;

/// Items whose numbers are fixed. Numbers in them are little-endian.
pub mod item {
    /// "QEMU": there is such a device. Set by [`Items::new`](super::Items::new).
    pub const SIGNATURE: u16 = 0x00;
    /// 4 bytes of flags: 1, the interface with two ports; 2, DMA. Set by [`Items::new`](super::Items::new)
    /// and [`FwCfg::with_memory`](crate::fw_cfg::FwCfg::with_memory).
    pub const ID: u16 = 0x01;
    /// 16 bytes: the VM's UUID.
    pub const UUID: u16 = 0x02;
    /// 8 bytes: RAM, in bytes.
    pub const RAM_SIZE: u16 = 0x03;
    /// 2 bytes: processors at the start.
    pub const NB_CPUS: u16 = 0x05;
    /// 4 bytes: where the kernel goes.
    pub const KERNEL_ADDR: u16 = 0x07;
    /// 4 bytes: the size of [`KERNEL_DATA`].
    pub const KERNEL_SIZE: u16 = 0x08;
    /// 4 bytes: where the initial RAM disk goes.
    pub const INITRD_ADDR: u16 = 0x0a;
    /// 4 bytes: the size of [`INITRD_DATA`].
    pub const INITRD_SIZE: u16 = 0x0b;
    /// 2 bytes: local APIC ids are below this.
    pub const MAX_CPUS: u16 = 0x0f;
    /// The kernel, without its setup code.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initial RAM disk.
    pub const INITRD_DATA: u16 = 0x12;
    /// 4 bytes: where the command line goes.
    pub const CMDLINE_ADDR: u16 = 0x13;
    /// 4 bytes: the size of [`CMDLINE_DATA`].
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The kernel's command line, and its NUL.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// 4 bytes: where the setup code goes.
    pub const SETUP_ADDR: u16 = 0x16;
    /// 4 bytes: the size of [`SETUP_DATA`].
    pub const SETUP_SIZE: u16 = 0x17;
    /// The kernel's boot sector and setup code.
    pub const SETUP_DATA: u16 = 0x18;
    /// The directory of files. Made by [`FwCfg::new`](crate::fw_cfg::FwCfg::new).
    pub const FILE_DIR: u16 = 0x19;
    /// The first file's number.
    pub const FILE_FIRST: u16 = 0x20;
}

/// The most bytes of a file's name.
pub const LONGEST_NAME: usize = 55;
/// The most files.
pub const MOST_FILES: usize = 0x400;

/// A directory entry's bytes of name, with at least one NUL.
const NAME_ROOM: usize = 56;

/// The bytes of an item.
///
/// Thread safety: called on vCPU threads, with the device's lock held. It must not block for long, and not
/// call back into the device.
pub trait Blob: Send + Sync {
    /// How many there are. It does not change.
    fn size(&self) -> u32;

    /// Fills `data` with the bytes from `offset` on. `offset` and `data` lie within the size. What cannot
    /// be read is left as it is: 0.
    fn read(&self, offset: u32, data: &mut [u8]);
}

impl Blob for Vec<u8> {
    /// Of what is longer than 4 GiB, the guest sees the first 4 GiB.
    fn size(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read(&self, offset: u32, data: &mut [u8]) {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(self.iter().skip(from)) {
            *to = *from;
        }
    }
}

/// What firmware can ask for.
#[derive(Clone)]
pub struct Items {
    items: BTreeMap<u16, Arc<dyn Blob>>,
    files: Vec<(String, u16)>,
}

impl Default for Items {
    fn default() -> Self {
        Self::new()
    }
}

impl Items {
    /// The signature and the interface's flags, and nothing else.
    pub fn new() -> Self {
        let mut items = Self {
            items: BTreeMap::new(),
            files: Vec::new(),
        };
        items.set(item::SIGNATURE, b"QEMU".to_vec());
        items.set(item::ID, 1_u32.to_le_bytes().to_vec());
        items
    }

    /// Makes `blob` item `number`; what was there before is gone.
    pub fn set(&mut self, number: u16, blob: impl Blob + 'static) {
        self.items.insert(number, Arc::new(blob));
    }

    /// Adds the file `name`, such as `etc/e820`.
    ///
    /// # Errors
    ///
    /// [`Error::BadConfig`] if the name is empty, longer than [`LONGEST_NAME`], has a NUL, or is there
    /// already; or if there are [`MOST_FILES`].
    pub fn add_file(&mut self, name: &str, blob: impl Blob + 'static) -> Result<(), Error> {
        let bad = |field, found, expected| Error::BadConfig {
            device: "fw_cfg",
            field,
            found,
            expected,
        };
        let length = name.len();
        if !(1..=LONGEST_NAME).contains(&length) {
            let expected = "1 to 55 bytes";
            return Err(bad("the length of a file's name", length as u64, expected));
        }
        if let Some(position) = name.bytes().position(|byte| byte == 0) {
            let field = "the position of a NUL in a file's name";
            return Err(bad(field, position as u64, "nowhere"));
        }
        let place = |file: &(String, u16)| file.0 == name;
        if let Some(position) = self.files.iter().position(place) {
            let field = "the position of another file of this name";
            return Err(bad(field, position as u64, "nowhere"));
        }
        let count = self.files.len();
        let number = u16::try_from(count)
            .ok()
            .filter(|_| count < MOST_FILES)
            .and_then(|count| item::FILE_FIRST.checked_add(count));
        let Some(number) = number else {
            let field = "the number of files";
            return Err(bad(field, count as u64, "less than 0x400"));
        };
        self.set(number, blob);
        self.files.push((name.to_owned(), number));
        Ok(())
    }

    /// The items, and the directory of the files among them.
    pub(super) fn finished(mut self) -> BTreeMap<u16, Arc<dyn Blob>> {
        let directory = self.directory();
        self.set(item::FILE_DIR, directory);
        self.items
    }

    /// The directory: a count, and an entry for each file, in ascending order of their names; its numbers are
    /// big-endian.
    fn directory(&self) -> Vec<u8> {
        let mut files = self.files.clone();
        files.sort();
        let mut directory = Vec::new();
        let count = u32::try_from(files.len()).unwrap_or(0);
        directory.extend(count.to_be_bytes());
        for (name, number) in files {
            let size = self.items.get(&number).map_or(0, |blob| blob.size());
            directory.extend(size.to_be_bytes());
            directory.extend(number.to_be_bytes());
            directory.extend([0; 2]);
            let padding = NAME_ROOM.saturating_sub(name.len());
            directory.extend(name.into_bytes());
            directory.extend(std::iter::repeat_n(0, padding));
        }
        directory
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self
            .items
            .iter()
            .map(|(number, blob)| (number, blob.size()));
        f.debug_map().entries(sizes).finish()
    }
}
