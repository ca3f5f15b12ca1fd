//! The embedded guest: what `vmm-bin` runs when it is given nothing to run.
//!
//! A firmware image of one page, in 16-bit code that rustc's own assembler makes of this folder's
//! `.s` files when the program is built (`menu.s` says more). It runs on any KVM, needs no file, prints a menu on COM1 and drives every
//! lifecycle path from there.

use crate::sys;

/// Where the image goes: it ends at 1 MiB.
pub(crate) const ADDRESS: u32 = 0xf_f000;
/// The segment that it is entered in.
pub(crate) const SEGMENT: u16 = 0xf000;
/// The offset that it is entered at: its first byte.
pub(crate) const OFFSET: u16 = 0xf000;

/// The image. It could also be started as a PC's firmware, from its last 16 bytes.
pub(crate) fn image() -> &'static [u8] {
    sys::embedded_guest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_one_page() {
        assert_eq!(image().len(), 4096);
    }

    #[test]
    fn the_reset_vector_is_a_far_jump_into_the_image() {
        let vector = &image()[4096 - 16..];
        assert_eq!(vector[0], 0xea, "ljmp");
        assert_eq!(
            vector[1..5],
            [0x00, 0xf0, 0x00, 0xf0],
            "f000:f000, where the image starts"
        );
    }

    #[test]
    fn the_menu_says_what_each_key_does() {
        let text = String::from_utf8_lossy(image());
        for key in "r9ctsuav4plogewnbhdx?".chars() {
            assert!(
                text.contains(&format!("\n  {key}  ")),
                "{key} is not in the menu"
            );
        }
    }

    #[test]
    fn no_label_can_be_taken_for_a_function_of_the_program() {
        let labels = sys::EMBEDDED_GUEST_SOURCE.lines().filter_map(|line| {
            let label = line.split_once(':')?.0;
            let name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
            (!label.is_empty() && label.chars().all(name)).then_some(label)
        });
        for label in labels {
            let local = label.starts_with(".L") || label.starts_with(|c: char| c.is_ascii_digit());
            assert!(
                local || label.starts_with("embedded_guest_image"),
                "{label}"
            );
        }
    }
}
