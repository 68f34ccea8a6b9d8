//! S3: the lake, the destination and the audit files.

mod audit;
mod bucket;
mod file_writer;
mod lake;
mod lake_objects;
mod lake_writer;
mod objects;
mod output;
mod usage;

pub use audit::S3AuditFiles;
pub use lake::S3Lake;
pub use lake_writer::S3LakeWriter;
pub use output::S3OutputStore;

#[cfg(test)]
mod tests;
