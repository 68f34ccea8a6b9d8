//! Serialization of records in the order of their keys.

use bytes::Bytes;

use super::FixedSizeRecord;

/// The size from which on a chunk is complete. The memory of a chunk is used again for the next one, so that a log takes little more than
/// its records while it is written.
const CHUNK_BYTES: usize = 64 << 10;

/// Records in the order of their keys, serialized in chunks: the content of a fragment.
pub(super) struct SortedChunks<T> {
    records: Vec<T>,
    /// For each record the high bits of its key, and its index in the low bits. Sorted.
    order: Vec<u64>,
    /// The number of low bits.
    index_bits: u32,
    /// The number of records that are serialized.
    written: usize,
}

impl<T: FixedSizeRecord> SortedChunks<T> {
    /// Sorts records.
    pub(super) fn new(records: Vec<T>) -> Self {
        // To sort short keys with the index of the record takes a third of the time of sorting the records.
        let index_bits = usize::BITS - records.len().leading_zeros();
        let order_of = |(index, record): (u64, &T)| record.key().high_bits() >> index_bits << index_bits | index;
        let mut order: Vec<u64> = (0..).zip(&records).map(order_of).collect();
        order.sort_unstable();
        Self { records, order, index_bits, written: 0 }
    }

    /// Returns the number of records that are left.
    fn records(&self) -> usize {
        self.order.len() - self.written
    }

    /// Appends the next records whose keys have the same high bits to `bytes`: nearly always one. Returns false if none are left.
    fn write_next(&mut self, bytes: &mut Vec<u8>) -> bool {
        let rest = self.order.get(self.written..).unwrap_or_default();
        let same_bits = rest.chunk_by(|one, next| one >> self.index_bits == next >> self.index_bits).next().unwrap_or_default();
        let index_mask = (1 << self.index_bits) - 1;
        let record_of = |order: &u64| usize::try_from(order & index_mask).ok().and_then(|index| self.records.get(index));
        if let [only] = same_bits {
            record_of(only).iter().for_each(|record| record.write(bytes));
        } else {
            let mut records: Vec<T> = same_bits.iter().filter_map(record_of).copied().collect();
            records.sort_unstable();
            records.iter().for_each(|record| record.write(bytes));
        }
        self.written += same_bits.len();
        !same_bits.is_empty()
    }
}

impl<T: FixedSizeRecord> Iterator for SortedChunks<T> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut bytes = Vec::with_capacity(CHUNK_BYTES.min(self.records() * T::BYTES) + T::BYTES);
        while bytes.len() < CHUNK_BYTES && self.write_next(&mut bytes) {}
        (!bytes.is_empty()).then(|| bytes.into())
    }
}
