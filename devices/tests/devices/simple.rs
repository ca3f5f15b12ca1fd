//! The devices of one register: ports 0x92 and 0xCF9, the two exits, and the debug console.

use std::sync::Arc;

use devices::{
    BusBuilder, BusDevice, OutputRing, PowerProbe, PowerRequest, ResetType, Resettable, SaveRestore,
};

use crate::{inb, outb};

#[cfg(feature = "port92")]
#[test]
fn port92_resets_on_the_rising_edge_only() {
    let power = Arc::new(PowerProbe::new());
    let port = devices::port92::Port92::new(power.clone());
    for (value, resets) in [
        (0x02, 0),
        (0x03, 1),
        (0x01, 0),
        (0x03, 0),
        (0xfe, 0),
        (0xff, 1),
    ] {
        outb(&port, 0, value);
        assert_eq!(inb(&port, 0), value);
        assert_eq!(
            power.take(),
            vec![PowerRequest::Reset; resets],
            "after {value:#x}"
        );
    }
}

#[cfg(feature = "port92")]
#[test]
fn port92_keeps_a20_over_a_reset_and_can_be_used_again() {
    let power = Arc::new(PowerProbe::new());
    let port = devices::port92::Port92::new(power.clone());
    for _ in 0..3 {
        outb(&port, 0, 0x03);
        assert_eq!(power.take(), [PowerRequest::Reset]);
        port.reset(ResetType::Cold);
        assert_eq!(inb(&port, 0), 0x02);
    }
}

#[cfg(feature = "reset-control")]
#[test]
fn reset_control_stores_what_its_chipset_has() {
    use devices::reset_control::{Chipset, FADT_RESET_VALUE, ResetControl};
    for (chipset, stored) in [(Chipset::Piix3, 0x02), (Chipset::Ich9, 0x0a)] {
        let power = Arc::new(PowerProbe::new());
        let register = ResetControl::new(chipset, power.clone());
        outb(&register, 0, 0x02);
        for value in 0..=u8::MAX {
            let before = inb(&register, 0);
            outb(&register, 0, value);
            if value & 4 != 0 {
                assert_eq!(power.take(), [PowerRequest::Reset]);
                assert_eq!(inb(&register, 0), before, "a reset stores nothing");
            } else {
                assert_eq!(power.take(), []);
                assert_eq!(inb(&register, 0), value & stored);
            }
        }
        outb(&register, 0, FADT_RESET_VALUE);
        assert_eq!(power.take(), [PowerRequest::Reset]);
        outb(&register, 0, 0xfb);
        register.reset(ResetType::Cold);
        assert_eq!(inb(&register, 0), 0);
    }
}

#[cfg(feature = "debug-exit")]
#[test]
fn debug_exit_takes_one_two_and_four_bytes() {
    use devices::debug_exit::{DebugExit, PORTS};
    let power = Arc::new(PowerProbe::new());
    let device = Arc::new(DebugExit::new(power.clone()));
    let mut builder = BusBuilder::pio();
    builder
        .map("isa-debug-exit", &PORTS, device.clone())
        .unwrap();
    let bus = builder.build();
    let cases: [(&[u8], u32); 5] = [
        (&[0x10], 33),
        (&[0x10, 0], 33),
        (&[0x34, 0x12], 0x2469),
        (&[0x10, 0, 0, 0], 33),
        (&[0xff, 0xff, 0xff, 0xff], 0xffff_ffff),
    ];
    for (data, code) in cases {
        bus.write(0x501, data);
        assert_eq!(
            power.take(),
            [PowerRequest::Shutdown {
                exit_code: Some(code)
            }]
        );
    }
    bus.write(0x501, &[1, 2, 3]);
    assert_eq!((power.take(), device.ignored()), (vec![], 1));
    let mut data = [0xaa; 4];
    bus.read(0x501, &mut data);
    assert_eq!(data, [0; 4]);
}

#[cfg(feature = "pvpanic")]
#[test]
fn pvpanic_tells_what_it_handles_and_filters_nothing() {
    use devices::pvpanic::{PvPanic, SHUTDOWN};
    let power = Arc::new(PowerProbe::new());
    for mask in 0..8 {
        let device = PvPanic::with_events(mask, power.clone()).unwrap();
        assert_eq!(inb(&device, 0), mask);
        outb(&device, 0, 1);
        outb(&device, 0, 2);
        // Twice: the device does not remember.
        outb(&device, 0, SHUTDOWN);
        outb(&device, 0, SHUTDOWN);
        assert_eq!(
            power.take(),
            [
                PowerRequest::GuestPanicked,
                PowerRequest::GuestCrashloaded,
                PowerRequest::PvShutdown,
                PowerRequest::PvShutdown,
            ]
        );
        assert_eq!(device.ignored(), 0);
    }
    assert_eq!(inb(&PvPanic::new(power), 0), 3);
}

#[cfg(feature = "pvpanic")]
#[test]
fn pvpanic_with_several_bits_is_the_lowest_alone() {
    use devices::pvpanic::PvPanic;
    let power = Arc::new(PowerProbe::new());
    let device = PvPanic::new(power.clone());
    for value in 0..=u8::MAX {
        outb(&device, 0, value);
        let expected = match value & 7 {
            0 => vec![],
            4 => vec![PowerRequest::PvShutdown],
            2 | 6 => vec![PowerRequest::GuestCrashloaded],
            _ => vec![PowerRequest::GuestPanicked],
        };
        assert_eq!(power.take(), expected, "after {value:#x}");
    }
    // Every value but 0 to 7 has a bit that means nothing.
    assert_eq!(device.ignored(), 248);
}

#[cfg(feature = "debugcon")]
#[test]
fn debugcon_writes_through_and_says_that_it_is_there() {
    let output = Arc::new(OutputRing::new(4));
    let device = devices::debugcon::DebugCon::new(output.clone());
    assert_eq!(inb(&device, 0), 0xe9);
    for byte in *b"hello" {
        outb(&device, 0, byte);
    }
    let mut text = [0; 8];
    assert_eq!(output.read(&mut text), 4);
    assert_eq!(&text[..4], b"hell");
    assert_eq!((device.lost(), output.dropped()), (1, 1));
}
