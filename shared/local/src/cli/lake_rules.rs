//! Options that say how the lines of a source are read, common to exports and to the commands that show what an export does.

use clap::Args;
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_edge::config::{parse_lake_watermark, parse_source_base_urls};
use headrace_fhir::semantics::reference::BaseUrls;

use super::{OptionError, parse_option};

/// The option for the moment up to which a source is complete.
#[derive(Debug, Args)]
pub struct WatermarkOptions {
    /// The moment up to which the source is complete: auto (as _headrace/watermark.json in the source says, else now), object (that
    /// file, which must exist), now (no change arrives late), a delay such as PT15M (no change is later), arrival (now; --since
    /// includes the files that arrived after it) [default: auto]
    #[arg(long, env = "HEADRACE_LAKE_WATERMARK", value_name = "RULE")]
    pub lake_watermark: Option<String>,
}

impl WatermarkOptions {
    /// Returns the rule for the moment up to which the source is complete.
    pub fn rule(&self) -> Result<LakeWatermark, OptionError> {
        Ok(parse_option(&self.lake_watermark, parse_lake_watermark)?.unwrap_or_default())
    }
}

/// The option for the base URLs of references.
#[derive(Debug, Args)]
pub struct BaseUrlOptions {
    /// Base URLs of absolute references to resources in the source, separated by commas [default: any]
    #[arg(long, env = "HEADRACE_SOURCE_BASE_URLS", value_name = "URLS")]
    pub source_base_urls: Option<String>,
}

impl BaseUrlOptions {
    /// Returns the base URLs.
    pub fn bases(&self) -> Result<BaseUrls, OptionError> {
        Ok(parse_option(&self.source_base_urls, parse_source_base_urls)?.unwrap_or_default())
    }
}
