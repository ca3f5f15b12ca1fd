//! The model of fw_cfg: what firmware reads.

use devices::fw_cfg::Items;

/// The content of the only file, which is item 0x20.
const FILE: &[u8] = b"a file that firmware reads";

/// The items that the model knows.
pub(crate) fn items() -> Items {
    let mut items = Items::new();
    items.add_file("file", FILE.to_vec()).unwrap();
    items
}

/// Which item is selected, and what of it has been read.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    selected: u16,
    read: usize,
}

impl Firmware {
    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) {
        if let (0, [low, high]) = (offset, data) {
            self.selected = u16::from_le_bytes([*low, *high]) & 0xbfff;
            self.read = 0;
        }
    }

    pub(crate) fn read_byte(&mut self, offset: u16) -> u8 {
        if offset != 1 {
            return 0xff;
        }
        let mut directory = vec![0, 0, 0, 1, 0, 0, 0, FILE.len() as u8, 0, 0x20, 0, 0];
        directory.extend(b"file");
        let content = match self.selected {
            0 => b"QEMU",
            1 => &[1, 0, 0, 0][..],
            0x19 => &directory,
            0x20 => FILE,
            _ => &[],
        };
        let byte = content.get(self.read).copied();
        self.read += 1;
        byte.unwrap_or(0)
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}
