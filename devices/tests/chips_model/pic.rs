//! The interrupt controllers, with lists instead of bits.

use std::sync::Arc;

use devices::pic::Pic;
use devices::{BusDevice, IrqProbe, ResetType, Resettable, SaveRestore};

use super::Source;

/// An input of a chip.
#[derive(Debug, Default, Clone, Copy)]
struct Input {
    high: bool,
    edge: bool,
    by_level: bool,
    masked: bool,
    served: bool,
}

#[derive(Debug, Clone)]
struct Chip {
    inputs: [Input; 8],
    /// The inputs, the highest priority first.
    order: Vec<usize>,
    base: u8,
    /// What the data port takes next: ICW 2, 3 or 4.
    awaits: Option<u8>,
    icw1: u8,
    all_by_level: bool,
    auto_end: bool,
    rotates: bool,
    nests_specially: bool,
    special_mask: bool,
    shows_service: bool,
    polled: bool,
}

impl Chip {
    fn fresh() -> Self {
        Self {
            inputs: Default::default(),
            order: (0..8).collect(),
            base: 0,
            awaits: None,
            icw1: 0,
            all_by_level: false,
            auto_end: false,
            rotates: false,
            nests_specially: false,
            special_mask: false,
            shows_service: false,
            polled: false,
        }
    }

    fn requested(&self, input: usize) -> bool {
        let input = self.inputs[input];
        if input.by_level || self.all_by_level {
            input.high
        } else {
            input.edge
        }
    }

    /// From the highest priority down: the first that asks, unless one in service comes before.
    fn pending(&self, slaves: &[usize]) -> Option<usize> {
        for at in &self.order {
            let input = self.inputs[*at];
            let nested = self.nests_specially && slaves.contains(at);
            if input.served && !(self.special_mask && input.masked) && !nested {
                return None;
            }
            if self.requested(*at) && !input.masked {
                return Some(*at);
            }
        }
        None
    }

    fn lowest(&mut self, input: usize) {
        while self.order[7] != input {
            self.order.rotate_left(1);
        }
    }

    fn acknowledge(&mut self, pending: Option<usize>) -> u8 {
        let Some(at) = pending else {
            return 7;
        };
        self.inputs[at].edge = false;
        if !self.auto_end {
            self.inputs[at].served = true;
        } else if self.rotates {
            self.lowest(at);
        }
        at as u8
    }

    fn register(&self, bit: impl Fn(usize) -> bool) -> u8 {
        (0..8).map(|at| u8::from(bit(at)) << at).sum()
    }

    fn read(&mut self, data: bool, pending: Option<usize>) -> u8 {
        if std::mem::take(&mut self.polled) {
            return match pending {
                Some(_) => 0x80 + self.acknowledge(pending),
                None => 0,
            };
        }
        match (data, self.shows_service) {
            (true, _) => self.register(|at| self.inputs[at].masked),
            (false, true) => self.register(|at| self.inputs[at].served),
            (false, false) => self.register(|at| self.requested(at)),
        }
    }

    fn command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            let inputs = self.inputs.map(|input| Input {
                high: input.high,
                by_level: input.by_level,
                ..Input::default()
            });
            *self = Self {
                inputs,
                icw1: value,
                awaits: Some(2),
                all_by_level: value & 8 != 0,
                ..Self::fresh()
            };
        } else if value & 0x08 != 0 {
            self.polled = value & 4 != 0;
            match value & 3 {
                2 => self.shows_service = false,
                3 => self.shows_service = true,
                _ => {}
            }
            match value >> 5 & 3 {
                2 => self.special_mask = false,
                3 => self.special_mask = true,
                _ => {}
            }
        } else {
            let named = usize::from(value & 7);
            let highest = self.order.iter().find(|at| self.inputs[**at].served);
            let ended = match value >> 5 & 3 {
                1 => highest.copied(),
                3 => Some(named),
                _ => None,
            };
            if let Some(ended) = ended {
                self.inputs[ended].served = false;
            }
            match (value & 0x80 != 0, value >> 5 & 3) {
                (rotates, 0) => self.rotates = rotates,
                (true, 2) => self.lowest(named),
                (true, _) => {
                    if let Some(ended) = ended {
                        self.lowest(ended);
                    }
                }
                (false, _) => {}
            }
        }
    }

    fn data(&mut self, value: u8) {
        let last = (self.icw1 & 1 == 1).then_some(4);
        match self.awaits.take() {
            None => {
                for (at, input) in self.inputs.iter_mut().enumerate() {
                    input.masked = value >> at & 1 == 1;
                }
            }
            Some(2) => {
                self.base = value / 8 * 8;
                self.awaits = if self.icw1 & 2 == 0 { Some(3) } else { last };
            }
            Some(3) => self.awaits = last,
            Some(_) => {
                self.auto_end = value & 2 != 0;
                self.nests_specially = value & 0x10 != 0;
            }
        }
    }

    fn set(&mut self, at: usize, level: bool) {
        let input = &mut self.inputs[at];
        input.edge |= level && !input.high;
        input.high = level;
    }
}

/// Lines that a guest can make triggered by level.
fn free(line: usize) -> bool {
    !matches!(line, 0 | 1 | 2 | 8 | 13)
}

struct Rig {
    device: Pic,
    processor: Arc<IrqProbe>,
    chips: [Chip; 2],
}

impl Rig {
    fn new() -> Self {
        let processor = Arc::new(IrqProbe::new());
        let mut rig = Self {
            device: Pic::new(processor.clone()),
            processor,
            chips: [Chip::fresh(), Chip::fresh()],
        };
        rig.chips[0].inputs[2].by_level = true;
        rig
    }

    fn pending(&self, chip: usize) -> Option<usize> {
        self.chips[chip].pending(if chip == 0 { &[2] } else { &[] })
    }

    fn cascade(&mut self) {
        let asks = self.pending(1).is_some();
        self.chips[0].set(2, asks);
    }

    fn read(&mut self, offset: u64) -> u8 {
        let chip = usize::from(matches!(offset, 2 | 3 | 5));
        if offset >= 4 {
            let model = &self.chips[chip];
            return model.register(|at| free(chip * 8 + at) && model.inputs[at].by_level);
        }
        let pending = self.pending(chip);
        self.chips[chip].read(offset & 1 == 1, pending)
    }

    fn write(&mut self, offset: u64, value: u8) {
        let chip = usize::from(matches!(offset, 2 | 3 | 5));
        if offset >= 4 {
            for at in (0..8).filter(|at| free(chip * 8 + at)) {
                self.chips[chip].inputs[at].by_level = value >> at & 1 == 1;
            }
        } else if offset & 1 == 0 {
            self.chips[chip].command(value);
        } else {
            self.chips[chip].data(value);
        }
    }

    fn acknowledge(&mut self) -> u8 {
        let pending = self.pending(0);
        let input = self.chips[0].acknowledge(pending);
        if pending == Some(2) {
            let pending = self.pending(1);
            return self.chips[1].base + self.chips[1].acknowledge(pending);
        }
        self.chips[0].base + input
    }

    fn reset(&mut self) {
        let lines = self
            .chips
            .clone()
            .map(|chip| chip.inputs.map(|input| input.high));
        self.chips = [Chip::fresh(), Chip::fresh()];
        self.chips[0].inputs[2].by_level = true;
        for (chip, lines) in self.chips.iter_mut().zip(lines) {
            for (input, high) in chip.inputs.iter_mut().zip(lines) {
                input.high = high;
            }
        }
    }
}

const OFFSETS: [u64; 7] = [0, 1, 2, 3, 4, 5, 0];

pub(super) fn run(source: &mut Source<'_>) {
    let mut rig = Rig::new();
    while let Some(kind) = source.next() {
        let offset = OFFSETS[usize::from(kind >> 4) % 7];
        match kind % 16 {
            0..5 => {
                let which = source.byte();
                let (line, level) = (u32::from(which & 0x1f), which & 0x20 != 0);
                rig.device.set(line, level);
                if line < 16 && line != 2 {
                    let line = line as usize;
                    rig.chips[line / 8].set(line % 8, level);
                }
            }
            5..9 => {
                let value = source.byte();
                rig.device.write(offset, &[value]);
                rig.write(offset, value);
            }
            9..12 => {
                let mut data = [0xaa];
                rig.device.read(offset, &mut data);
                assert_eq!(data[0], rig.read(offset), "{offset:#x}: {:?}", rig.chips);
            }
            12..14 => {
                let vector = rig.device.acknowledge();
                assert_eq!(vector, rig.acknowledge(), "{:?}", rig.chips);
            }
            14 => {
                let state = rig.device.save();
                rig.device.restore(&state).unwrap();
                assert_eq!(rig.device.save(), state);
            }
            _ => {
                rig.device.reset(ResetType::Cold);
                rig.reset();
            }
        }
        rig.cascade();
        if kind % 16 == 15 {
            // An edge of the slave's request during a reset is none.
            rig.chips[0].inputs[2].edge = false;
        }
        let expected = rig.pending(0).is_some();
        assert_eq!(rig.processor.level(), expected, "{:?}", rig.chips);
    }
}
