//! What goes over the wire, in QAPI's spelling.

crate::qapi! {
    /// The form of the file. QAPI's `DumpGuestMemoryFormat`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
    pub enum DumpFormat {
        /// An ELF core file.
        Elf,
        /// kdump's, with zlib.
        KdumpZlib,
        /// kdump's, with LZO.
        KdumpLzo,
        /// kdump's, with snappy.
        KdumpSnappy,
        /// Windows'.
        WinDmp,
    }
}

impl DumpFormat {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DumpFormat::Elf => "elf",
            DumpFormat::KdumpZlib => "kdump-zlib",
            DumpFormat::KdumpLzo => "kdump-lzo",
            DumpFormat::KdumpSnappy => "kdump-snappy",
            DumpFormat::WinDmp => "win-dmp",
        }
    }
}

crate::qapi! {
    /// QAPI's `DumpStatus`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
    pub enum DumpStatus {
        /// There was none yet.
        #[default]
        None,
        /// One is being written.
        Active,
        /// The last one is complete.
        Completed,
        /// The last one is not there.
        Failed,
    }
}

impl DumpStatus {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DumpStatus::None => "none",
            DumpStatus::Active => "active",
            DumpStatus::Completed => "completed",
            DumpStatus::Failed => "failed",
        }
    }
}

crate::qapi! {
    /// How far the dump is. QAPI's `DumpQueryResult`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
    pub struct DumpQueryResult {
        /// Whether there is one.
        pub status: DumpStatus,
        /// Bytes of the guest's memory that are done.
        pub completed: u64,
        /// Bytes of the guest's memory that are to be done.
        pub total: u64,
    }
}

crate::qapi! {
    /// What `dump-guest-memory` takes.
    #[derive(Debug, serde::Deserialize)]
    pub(super) struct DumpGuestMemory {
        pub(super) paging: bool,
        pub(super) protocol: String,
        pub(super) detach: Option<bool>,
        pub(super) begin: Option<i64>,
        pub(super) length: Option<i64>,
        pub(super) format: Option<DumpFormat>,
    }
}

crate::qapi! {
    /// What `query-dump-guest-memory-capability` gives.
    #[derive(serde::Serialize)]
    pub(super) struct Capability {
        pub(super) formats: Vec<DumpFormat>,
    }
}

crate::qapi! {
    /// The data of `DUMP_COMPLETED`.
    #[derive(serde::Serialize)]
    pub(super) struct Completed {
        pub(super) result: DumpQueryResult,
        pub(super) error: Option<String>,
    }
}
