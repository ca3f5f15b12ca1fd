//! The FADT: where the fixed hardware is (ACPI 6.5, sections 4.8 and 5.2.9).

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use devices::acpi_pm::{CONTROL_LEN, CONTROL_OFFSET, EVENT_LEN, TIMER_OFFSET};
use devices::cmos_rtc::CENTURY;
use devices::reset_control::FADT_RESET_VALUE;

use super::{OEM, OEM_TABLE, REVISION, bytes};
use crate::platform::error::Error;
use crate::platform::layout::{PM_BASE, RESET_CONTROL, SCI_IRQ};

/// FADT boot flags: there are legacy devices and an i8042, no VGA, no MSI (there is no PCI).
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 3;

/// An I/O register of `width` bits.
fn io_register(port: u16, width: u8) -> GAS {
    let access = match width {
        8 => AccessSize::ByteAccess,
        16 => AccessSize::WordAccess,
        _ => AccessSize::DwordAccess,
    };
    GAS::new(AddressSpace::SystemIo, width, 0, access, u64::from(port))
}

/// The fixed hardware.
pub(super) fn fadt(dsdt: u64, facs: u64) -> Result<Vec<u8>, Error> {
    let low = |address: u64| {
        u32::try_from(address).map_err(|error| Error::Acpi {
            reason: error.to_string(),
        })
    };
    let event = PM_BASE;
    let control = PM_BASE.saturating_add(CONTROL_OFFSET);
    let timer = PM_BASE.saturating_add(TIMER_OFFSET);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .firmware_ctrl_32(low(facs)?)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.dsdt = low(dsdt)?.into();
    fadt.sci_int = u16::try_from(SCI_IRQ).unwrap_or(u16::MAX).into();
    fadt.pm1a_evt_blk = u32::from(event).into();
    fadt.pm1_evt_len = EVENT_LEN;
    fadt.x_pm1a_evt_blk = io_register(event, 32);
    fadt.pm1a_cnt_blk = u32::from(control).into();
    fadt.pm1_cnt_len = CONTROL_LEN;
    fadt.x_pm1a_cnt_blk = io_register(control, 16);
    fadt.pm_tmr_blk = u32::from(timer).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = io_register(timer, 32);
    fadt.reset_reg = io_register(RESET_CONTROL, 8);
    fadt.reset_value = FADT_RESET_VALUE;
    // C2 and C3 do not exist: their latencies say so.
    fadt.p_lvl2_lat = 0xfff.into();
    fadt.p_lvl3_lat = 0xfff.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    Ok(bytes(&fadt.finalize()))
}
