//! Boot images: good ones, and every way in which a file is not one.

use std::io::Write;
use std::path::Path;

use devices::BusDevice;
use devices::fw_cfg::{FwCfg, item};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempfile::TempFile;

use super::test_images::{LOAD, NOTE, bzimage, elf, put, pvh_note};
use super::*;
use crate::platform::layout::{COMMAND_LINE, HIGH_RAM, HOLE_END, MIB, PVH_START_INFO, ZERO_PAGE};
use crate::platform::memory::Backing;

/// A file with these bytes.
fn file(bytes: &[u8]) -> TempFile {
    let file = TempFile::new().unwrap();
    file.as_file().write_all(bytes).unwrap();
    file
}

/// A kernel with nothing else.
fn kernel(path: &Path) -> BootSource {
    BootSource::Kernel {
        firmware: None,
        kernel: path.to_path_buf(),
        initrd: None,
        command_line: String::new(),
    }
}

/// Why a file with these bytes is no kernel.
fn refusal(bytes: &[u8]) -> String {
    let file = file(bytes);
    let message = Images::open(&kernel(file.as_path()))
        .unwrap_err()
        .to_string();
    message.replace(&file.as_path().display().to_string(), "FILE")
}

fn memory() -> Memory {
    Memory::new(32 * MIB, Backing::Private, None, 40).unwrap()
}

fn tables() -> Tables {
    Tables::new(2, None).unwrap()
}

/// Reads guest memory.
fn read(memory: &Memory, address: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    memory
        .regions()
        .read_slice(&mut bytes, GuestAddress(address))
        .unwrap();
    bytes
}

fn read_u32(memory: &Memory, address: u64) -> u32 {
    u32::from_le_bytes(read(memory, address, 4).try_into().unwrap())
}

fn read_u64(memory: &Memory, address: u64) -> u64 {
    u64::from_le_bytes(read(memory, address, 8).try_into().unwrap())
}

#[test]
fn what_is_no_kernel_is_told_by_what_it_is() {
    let expected = "FILE is not a kernel: expected a bzImage, an ELF vmlinux or a PVH image; found";
    let mut arm64 = vec![0; 64];
    put(&mut arm64, 56, b"ARM\x64");
    for (bytes, found) in [
        (&b""[..], "an empty file"),
        (b"#!/bin/sh\n", "a script"),
        (
            b"\x1f\x8b\x08",
            "gzip-compressed data (decompress it first)",
        ),
        (b"070701", "a cpio archive (an initrd?)"),
        (b"MZ\x90", "a PE program without a Linux boot header"),
        (b"QFI\xfb", "a qcow2 disk image"),
        (&arm64, "a kernel for arm64"),
        (
            b"\x01\x02\x03\x04\x05",
            "a file that begins with the bytes 01 02 03 04",
        ),
    ] {
        assert_eq!(refusal(bytes), format!("{expected} {found}"));
    }
}

#[test]
fn a_path_that_is_no_readable_file_is_told_so() {
    let missing = Images::open(&kernel(Path::new("/nonexistent/vmlinuz"))).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("kernel /nonexistent/vmlinuz: No such file")
    );
    let directory = Images::open(&kernel(Path::new("/tmp"))).unwrap_err();
    assert_eq!(directory.to_string(), "kernel /tmp: not a regular file");
    let device = Images::open(&kernel(Path::new("/dev/zero"))).unwrap_err();
    assert!(matches!(device, Error::NotAFile { .. }), "{device}");
}

#[test]
fn a_bzimage_is_loaded_by_the_64_bit_boot_protocol() {
    let (image, initrd) = (file(&bzimage()), file(&[0x55; 5000]));
    let source = BootSource::Kernel {
        firmware: None,
        kernel: image.as_path().to_path_buf(),
        initrd: Some(initrd.as_path().to_path_buf()),
        command_line: "console=ttyS0".to_owned(),
    };
    let memory = memory();
    let tables = tables();
    let entry = Images::open(&source)
        .unwrap()
        .load(&memory, &tables)
        .unwrap();
    assert_eq!(
        entry,
        Entry::Long {
            ip: HIGH_RAM + 0x200,
            rsi: ZERO_PAGE
        }
    );
    assert_eq!(read(&memory, HIGH_RAM, 4096), [0x90; 4096]);
    assert_eq!(read(&memory, COMMAND_LINE, 14), b"console=ttyS0\0");
    let initrd_at = u64::from(read_u32(&memory, ZERO_PAGE + 0x218));
    assert_eq!(initrd_at, 32 * MIB - 8192, "the highest page that fits");
    assert_eq!(read_u32(&memory, ZERO_PAGE + 0x21c), 5000);
    assert_eq!(read(&memory, initrd_at, 5001)[4999..], [0x55, 0]);
    assert_eq!(
        u64::from(read_u32(&memory, ZERO_PAGE + 0x228)),
        COMMAND_LINE
    );
    assert_eq!(
        read(&memory, ZERO_PAGE + 0x210, 1),
        [0xff],
        "type of loader"
    );
    assert_eq!(
        read(&memory, ZERO_PAGE + 0x1e8, 1),
        [5],
        "memory map entries"
    );
    assert_eq!(read_u64(&memory, ZERO_PAGE + 0x70), tables.rsdp());
    assert_eq!(read(&memory, tables.rsdp(), 8), b"RSD PTR ");
}

#[test]
fn a_bzimage_that_cannot_be_booted_is_told_why() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bzimage();
        put(&mut bytes, at, value);
        refusal(&bytes)
    };
    assert!(with(0x206, &[0x0b, 2]).contains("speaks boot protocol 2.11, 2.12 or newer"));
    assert!(with(0x211, &[0]).contains("a zImage"));
    assert!(with(0x236, &[0, 0]).contains("has no 64-bit entry"));
    assert!(with(0x1f4, &[0xff, 0xff]).contains("truncated"));
    assert!(with(0x230, &[3, 0, 0, 0]).contains("no power of two"));
}

#[test]
fn what_does_not_fit_is_told_with_numbers() {
    let load = |command_line: &str, initrd_size: usize, edit: fn(&mut Vec<u8>)| {
        let mut bytes = bzimage();
        edit(&mut bytes);
        let (image, initrd) = (file(&bytes), file(&vec![1; initrd_size]));
        let source = BootSource::Kernel {
            firmware: None,
            kernel: image.as_path().to_path_buf(),
            initrd: Some(initrd.as_path().to_path_buf()),
            command_line: command_line.to_owned(),
        };
        Images::open(&source)?.load(&memory(), &tables())
    };
    load("twenty bytes of text", 29 << 20, |_| {}).unwrap();
    let error = load("twenty-one bytes, see", 1, |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel command line has 21 bytes, this kernel takes at most 20"
    );
    let error = load("", (29 << 20) + 1, |_| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("30408705 bytes, 30408704 bytes are free"),
        "{error}"
    );
    let error = load("", 1, |bytes| put(bytes, 0x260, &[0, 0, 0, 2])).unwrap_err();
    assert!(error.to_string().contains("needs 33 MiB"), "{error}");
    let error = load("a\0b", 1, |_| {}).unwrap_err();
    assert!(
        matches!(error, Error::CommandLineNul { position: 1 }),
        "{error}"
    );
}

#[test]
fn an_elf_kernel_is_entered_by_pvh_where_it_can() {
    for (class, machine) in [(2, 62), (1, 3)] {
        let image = file(&elf(
            class,
            machine,
            &pvh_note(),
            &[NOTE, LOAD, (4, 0x500, 0, 0, 0)],
        ));
        let memory = memory();
        let entry = Images::open(&kernel(image.as_path()))
            .unwrap()
            .load(&memory, &tables())
            .unwrap();
        let ebx = u32::try_from(PVH_START_INFO).unwrap();
        assert_eq!(entry, Entry::Protected { ip: 0x10_0040, ebx });
        assert_eq!(read(&memory, HIGH_RAM, 0x2000)[0xfff..0x1001], [0x90, 0]);
        assert_eq!(read_u32(&memory, PVH_START_INFO), 0x336e_c578);
        assert_eq!(
            read_u32(&memory, PVH_START_INFO + 48),
            5,
            "memory map entries"
        );
    }
}

#[test]
fn a_vmlinux_without_pvh_is_entered_in_64_bit_mode() {
    let image = file(&elf(2, 62, &[], &[LOAD]));
    let memory = memory();
    let entry = Images::open(&kernel(image.as_path()))
        .unwrap()
        .load(&memory, &tables())
        .unwrap();
    assert_eq!(
        entry,
        Entry::Long {
            ip: 0x10_0100,
            rsi: ZERO_PAGE
        }
    );
    assert_eq!(read(&memory, ZERO_PAGE + 0x202, 4), b"HdrS");
}

#[test]
fn an_elf_file_that_cannot_be_booted_is_told_why() {
    let no_pvh = refusal(&elf(1, 3, &[], &[LOAD]));
    assert!(
        no_pvh.contains("32-bit ELF file without a PVH note"),
        "{no_pvh}"
    );
    assert!(refusal(&elf(2, 183, &[], &[LOAD])).contains("machine 183, expected x86"));
    assert!(refusal(&elf(2, 62, &[], &[])).contains("no segment to load"));
    let low = (1, 0x1000, 0x8000, 0x1000, 0x1000);
    assert!(refusal(&elf(2, 62, &[], &[low])).contains("below 1 MiB"));
    let long = (1, 0x1000, HIGH_RAM, 0x1001, 0x1001);
    assert!(refusal(&elf(2, 62, &[], &[long])).contains("truncated"));
    let wraps = (1, u64::MAX, HIGH_RAM, 2, 2);
    assert!(refusal(&elf(2, 62, &[], &[wraps])).contains("truncated"));
    let shrinks = (1, 0x1000, HIGH_RAM, 0x1000, 0xfff);
    assert!(refusal(&elf(2, 62, &[], &[shrinks])).contains("larger in the file"));
    let mut big_endian = elf(2, 62, &[], &[LOAD]);
    big_endian[5] = 2;
    assert!(refusal(&big_endian).contains("big-endian"));

    let far = (1, 0x1000, u64::MAX - 0xfff, 0x1000, 0x1000);
    let image = file(&elf(2, 62, &[], &[far]));
    let mut images = Images::open(&kernel(image.as_path())).unwrap();
    let error = images.load(&memory(), &tables()).unwrap_err();
    assert!(matches!(error, Error::KernelTooLarge { .. }), "{error}");
}

#[test]
fn an_elf_kernel_whose_entry_is_not_loaded_is_told_so() {
    // The entry is at the 64-bit header's 0x100100, the note's at 0x100040.
    let elsewhere = (1, 0x1000, 2 * HIGH_RAM, 0x1000, 0x1000);
    let too_short = (1, 0x1000, HIGH_RAM, 0x40, 0x40);
    for (notes, headers, entry) in [
        (vec![], vec![elsewhere], "0x100100"),
        (pvh_note(), vec![NOTE, elsewhere], "0x100040"),
        (pvh_note(), vec![NOTE, too_short], "0x100040"),
    ] {
        let image = file(&elf(2, 62, &notes, &headers));
        let mut images = Images::open(&kernel(image.as_path())).unwrap();
        let error = images.load(&memory(), &tables()).unwrap_err().to_string();
        let reason = format!("its entry {entry} is in none of the segments that are loaded");
        assert!(error.contains(&reason), "{error}");
    }
}

#[test]
fn a_truncated_kernel_is_an_error_at_every_length() {
    for image in [bzimage(), elf(2, 62, &pvh_note(), &[NOTE, LOAD])] {
        for size in (0..0x480).chain([image.len() / 2, image.len() - 1]) {
            let file = file(&image[..size]);
            let error = Images::open(&kernel(file.as_path())).unwrap_err();
            assert!(
                matches!(error, Error::NotAKernel { .. } | Error::Kernel { .. }),
                "{size}: {error}"
            );
        }
    }
}

#[test]
fn firmware_ends_at_4_gib_and_at_1_mib() {
    let mut bytes = vec![0x11; 0x5_0000];
    bytes[0x1_0000..].fill(0x22);
    let image = file(&bytes);
    let mut images = Images::open(&BootSource::Firmware(image.as_path().to_path_buf())).unwrap();
    let memory = Memory::new(16 * MIB, Backing::Private, images.firmware_size(), 40).unwrap();
    assert_eq!(images.load(&memory, &tables()).unwrap(), Entry::ResetVector);
    assert_eq!(read(&memory, HOLE_END - 0x5_0000, 0x5_0000), bytes);
    assert_eq!(
        read(&memory, HIGH_RAM - 0x4_0000, 0x4_0000),
        bytes[0x1_0000..]
    );
    assert_eq!(read(&memory, HIGH_RAM - 0x4_0001, 1), [0]);
}

#[test]
fn firmware_of_an_impossible_size_is_refused() {
    for bytes in [vec![0; 15], vec![0; (16 << 20) + 1]] {
        let image = file(&bytes);
        let error = Images::open(&BootSource::Firmware(image.as_path().to_path_buf()));
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with("a firmware image has 16 to 16777216"),
            "{error}"
        );
    }
}

#[test]
fn a_flat_image_goes_where_it_belongs_or_nowhere() {
    let image = |address| {
        BootSource::Flat(FlatImage {
            bytes: Cow::Borrowed(&[0xf4; 16]),
            address,
            segment: 0x7c0,
            offset: 4,
        })
    };
    let memory = memory();
    let entry = Images::open(&image(0x7c00))
        .unwrap()
        .load(&memory, &tables())
        .unwrap();
    assert_eq!(
        entry,
        Entry::Real {
            segment: 0x7c0,
            ip: 4
        }
    );
    assert_eq!(read(&memory, 0x7c00, 17)[15..], [0xf4, 0]);
    let error = Images::open(&image(u32::MAX))
        .unwrap()
        .load(&memory, &tables())
        .unwrap_err();
    assert!(matches!(error, Error::FlatImage { .. }), "{error}");
}

#[test]
fn a_second_load_leaves_memory_as_the_first_did() {
    let (image, initrd) = (file(&bzimage()), file(&[0x55; 5000]));
    let mut images = Images::open(&BootSource::Kernel {
        firmware: None,
        kernel: image.as_path().to_path_buf(),
        initrd: Some(initrd.as_path().to_path_buf()),
        command_line: "quiet".to_owned(),
    })
    .unwrap();
    let (memory, tables) = (memory(), tables());
    let size = usize::try_from(memory.size()).unwrap();
    let first_entry = images.load(&memory, &tables).unwrap();
    let first = read(&memory, 0, size);
    memory.write(0, &vec![0xcc; size]).unwrap();
    memory.clear().unwrap();
    let second_entry = images.load(&memory, &tables).unwrap();
    assert_eq!(first_entry, second_entry);
    assert!(
        first == read(&memory, 0, size),
        "the second boot differs from the first"
    );
}

#[test]
fn a_jump_to_the_reset_vector_resets_where_there_is_no_firmware() {
    let image = file(&bzimage());
    let memory = memory();
    let mut images = Images::open(&kernel(image.as_path())).unwrap();
    images.load(&memory, &tables()).unwrap();
    let code = read(&memory, crate::platform::layout::RESET_VECTOR, 6);
    assert_eq!(code, [0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee]);
}

#[test]
fn a_file_that_was_written_to_is_not_loaded_again() {
    let image = file(&bzimage());
    let mut images = Images::open(&kernel(image.as_path())).unwrap();
    images.load(&memory(), &tables()).unwrap();
    image.as_file().set_len(100).unwrap();
    let error = images.load(&memory(), &tables()).unwrap_err();
    assert!(
        error.to_string().contains("changed while the machine ran"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_replaced_is_still_the_old_one() {
    let image = file(&bzimage());
    let mut images = Images::open(&kernel(image.as_path())).unwrap();
    std::fs::remove_file(image.as_path()).unwrap();
    std::fs::write(image.as_path(), b"something else").unwrap();
    images.load(&memory(), &tables()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a file's headers say, opening and loading it ends, and touches guest memory only.
    #[test]
    fn hostile_headers_do_no_harm(
        which in 0_usize..3,
        edits in prop::collection::vec((0_usize..0x480, any::<u8>()), 1..12),
    ) {
        let mut bytes = match which {
            0 => bzimage(),
            1 => elf(2, 62, &pvh_note(), &[NOTE, LOAD]),
            _ => elf(1, 3, &pvh_note(), &[NOTE, LOAD]),
        };
        for (at, value) in edits {
            bytes[at] = value;
        }
        let image = file(&bytes);
        if let Ok(mut images) = Images::open(&kernel(image.as_path())) {
            drop(images.load(&memory(), &tables()));
        }
    }
}

/// What firmware reads of an item.
fn content(device: &FwCfg, number: u16, size: usize) -> Vec<u8> {
    device.write(0, &number.to_le_bytes());
    let mut byte = [0];
    let read = |_| {
        device.read(1, &mut byte);
        byte[0]
    };
    (0..size).map(read).collect()
}

#[test]
fn firmware_is_handed_the_kernel_in_parts() {
    let image = bzimage();
    let (kernel, initrd) = (file(&image), file(b"an initrd"));
    let firmware = file(&[0xf4; 0x1_0000]);
    let images = Images::open(&BootSource::Kernel {
        firmware: Some(firmware.as_path().to_path_buf()),
        kernel: kernel.as_path().to_path_buf(),
        initrd: Some(initrd.as_path().to_path_buf()),
        command_line: "a line".to_owned(),
    });
    let mut images = images.unwrap();
    let memory = Memory::new(32 * MIB, Backing::Private, images.firmware_size(), 40).unwrap();
    let device = FwCfg::new(images.handover(&memory, 3, [7; 16]).unwrap().unwrap());

    let number = |at| u32::from_le_bytes(content(&device, at, 4).try_into().unwrap()) as usize;
    let setup = number(item::SETUP_SIZE);
    let code = number(item::KERNEL_SIZE);
    assert_eq!(setup + code, image.len());
    assert_eq!(content(&device, item::SETUP_DATA, setup), image[..setup]);
    assert_eq!(content(&device, item::KERNEL_DATA, code), image[setup..]);
    assert_eq!(content(&device, item::INITRD_DATA, 10), b"an initrd\0");
    let end = number(item::INITRD_ADDR) + number(item::INITRD_SIZE);
    assert!(end as u64 <= memory.low_end());
    assert_eq!(number(item::CMDLINE_SIZE), 7);
    assert_eq!(content(&device, item::CMDLINE_DATA, 7), b"a line\0");
    assert_eq!(content(&device, item::NB_CPUS, 2), [3, 0]);
    assert_eq!(content(&device, item::UUID, 16), [7; 16]);
    assert_eq!(
        content(&device, item::RAM_SIZE, 8),
        (32 * MIB).to_le_bytes()
    );
    // The first file is the memory map, whose first entry is RAM from 0 on.
    let map = content(&device, item::FILE_FIRST, 40);
    assert_eq!(map[..8], [0; 8]);
    assert_eq!(map[8..16], (32 * MIB).to_le_bytes());
    assert_eq!(map[16..20], [1, 0, 0, 0]);
    assert_eq!(map[36..40], [2, 0, 0, 0]);

    // The tables lie where the firmware leaves them room, and not where SeaBIOS lies.
    images.load(&memory, &tables()).unwrap();
    assert_eq!(read(&memory, 0xe_0000, 8), b"RSD PTR ");
}

#[test]
fn firmware_boots_no_elf_kernel() {
    let (kernel, firmware) = (file(&elf(2, 62, &[], &[LOAD])), file(&[0xf4; 0x1_0000]));
    let images = Images::open(&BootSource::Kernel {
        firmware: Some(firmware.as_path().to_path_buf()),
        kernel: kernel.as_path().to_path_buf(),
        initrd: None,
        command_line: String::new(),
    });
    let refused = images.unwrap().handover(&memory(), 1, [0; 16]).unwrap_err();
    assert!(refused.to_string().contains("no bzImage"), "{refused}");
}
