//! What a process uses, as the kernel says.

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Memory that it has resident.
    pub rss_mib: u64,
    /// Its threads.
    pub threads: u64,
    /// Its open files and connections.
    pub descriptors: usize,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} MiB, {} threads, {} descriptors", self.rss_mib, self.threads, self.descriptors)
    }
}

impl Usage {
    /// Of the process of now.
    pub fn of(pid: i32) -> Usage {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Usage { rss_mib: number("VmRSS:") >> 10, threads: number("Threads:"), descriptors }
    }
}
