//! Memory that all stores of a process share, and every RocksDB option that matters, by name, with its reason.
//!
//! A process runs twelve to a hundred stores in a few dozen megabytes. So there is one block cache and one budget for
//! write buffers, which is charged to that cache: the cache's size is the size of RocksDB. Write buffers add to it: when
//! they shared what was meant for blocks, a backlog filled it, and every read of a new key fetched its filter from the
//! file again (three times the CPU per command).

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Env, LogLevel, LruCacheOptions,
    Options, WriteBufferManager, WriteOptions,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The shared memory of all stores of a process. Clones share it.
#[derive(Clone)]
pub struct Budget {
    cache: Cache,
    write_buffers: WriteBufferManager,
    env: Option<Env>,
    memtable_bytes: usize,
    max_open_files: i32,
}

impl Budget {
    /// `block_cache_bytes` bounds blocks, indexes and filters; `write_buffer_bytes` is what rows may take beside them
    /// before they are flushed.
    pub fn new(block_cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        let mut cache = LruCacheOptions::default();
        cache.set_capacity(block_cache_bytes + write_buffer_bytes);
        // By default up to 64 parts: of a small cache each would be smaller than what it has to hold.
        cache.set_num_shard_bits(3);
        let cache = Cache::new_lru_cache_opts(&cache);
        Budget {
            // No stall: past the budget stores flush earlier, commits never wait for the flush of another store.
            write_buffers: WriteBufferManager::new_write_buffer_manager_with_cache(
                write_buffer_bytes,
                false,
                cache.clone(),
            ),
            cache,
            // The process-wide environment, whose threads all stores share; without it RocksDB takes the same one.
            env: Env::new().ok().map(|mut env| {
                env.set_high_priority_background_threads(1);
                env.set_low_priority_background_threads(1);
                env
            }),
            // One busy store must not take the whole budget, a flush should still be worth a file.
            memtable_bytes: (write_buffer_bytes / 4).clamp(MIB, 16 * MIB),
            max_open_files: 48,
        }
    }

    /// File descriptors that one store may keep for its tables (48 unless told).
    pub fn with_max_open_files(self, max_open_files: i32) -> Self {
        Budget { max_open_files, ..self }
    }

    /// Bytes that the shared cache holds now, write buffers included.
    pub fn used_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// Bytes of rows that are not flushed yet, over all stores.
    pub fn write_buffer_bytes(&self) -> usize {
        self.write_buffers.get_usage()
    }

    pub(super) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        if let Some(env) = &self.env {
            options.set_env(env);
        }
        self.set_memory(&mut options);
        set_safety(&mut options);
        set_files(&mut options, self.memtable_bytes);
        set_quiet(&mut options);
        options.set_block_based_table_factory(&self.tables());
        options
    }

    fn set_memory(&self, options: &mut Options) {
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_write_buffer_size(self.memtable_bytes);
        // One fills while one is flushed.
        options.set_max_write_buffer_number(2);
        options.set_max_write_buffer_size_to_maintain(0);
        // The default is an eighth of the buffer, and a hundred idle stores would hold a hundred such blocks.
        options.set_arena_block_size(64 * KIB);
        // Most reads of a new key miss: a filter in front of the memtable spares the search.
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_memtable_whole_key_filtering(true);
        // Table readers are the one memory that the cache does not count, and descriptors are few.
        options.set_max_open_files(self.max_open_files);
        // With one column family a flush retires the log; this is the bound if it should not.
        options.set_max_total_wal_size(4 * self.memtable_bytes as u64);
        // One flush and one compaction at a time: two cores also run the tasks.
        options.set_max_background_jobs(2);
        options.set_writable_file_max_buffer_size(256 * KIB as u64);
        options.set_compaction_readahead_size(256 * KIB);
    }

    fn tables(&self) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&self.cache);
        tables.set_block_size(4 * KIB);
        // Indexes and filters live in the cache too, else they grow without bound beside it.
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // In pieces, of which a read fetches one: a whole filter of a large file would push out much else.
        tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        tables.set_partition_filters(true);
        tables.set_metadata_block_size(4 * KIB);
        tables.set_pin_top_level_index_and_filter(true);
        // One percent false positives.
        tables.set_bloom_filter(10.0, false);
        tables.set_whole_key_filtering(true);
        tables.set_optimize_filters_for_memory(true);
        // Footers and properties have checksums from format 6 on.
        tables.set_format_version(6);
        tables
    }
}

/// Found damage is an error, not a skipped row; a torn tail of the write-ahead log is only a lost tail.
fn set_safety(options: &mut Options) {
    options.set_paranoid_checks(true);
    // Nothing is synced per commit, so a power cut leaves a torn log: replay stops there, and the changelog gives the
    // rest back. Any other mode either refuses such a store or could replay past a hole.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_write_dbid_to_manifest(true);
    // Never: concurrent readers could see half of a batch.
    options.set_unordered_write(false);
}

fn set_files(options: &mut Options, memtable_bytes: usize) {
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(16 * MIB as u64);
    options.set_max_bytes_for_level_base(4 * memtable_bytes as u64);
    options.set_level_zero_file_num_compaction_trigger(4);
    options.set_level_zero_slowdown_writes_trigger(20);
    options.set_level_zero_stop_writes_trigger(36);
    // Written to the device while the file grows, not in one burst that holds back commits.
    options.set_bytes_per_sync(MIB as u64);
    // Files are deleted by a background thread, not by a reader.
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_max_manifest_file_size(4 * MIB);
    options.set_manifest_preallocation_size(64 * KIB);
    // A recycled log holds old records behind new ones, which point-in-time recovery has to tell apart.
    options.set_recycle_log_file_num(0);
}

/// Little to read beside the data, and nothing that runs by a timer.
fn set_quiet(options: &mut Options) {
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(MIB);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
}

/// Log on, no sync: `kill -9` loses nothing, and a power cut loses a tail that the changelog gives back.
pub(super) fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(false);
    options.set_sync(false);
    // A stalled write comes back to us instead of waiting inside: see `RocksStore::write`.
    options.set_no_slowdown(true);
    options
}
