//! What is in a pool and belongs to no object: told in detail, examined before it is adopted, removed only when it is named.

use super::{Error, ImageFacts};
use lq_api::{
    Bytes, ImageId, VmId, VolumeId,
    image::{ImageFormat, ImageKind},
    pool::ForeignKind,
};
use std::{fmt, str::FromStr};

/// One content of a pool, named as its file is: `images/<id>`, `volumes/<id>.<format>`, `firmware/<id>.fd`,
/// `firmware/<id>.tpm`, which is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Of an image.
    Image(ImageId),
    /// A volume.
    Volume(VolumeId, ImageFormat),
    /// Variables of a machine's firmware.
    Firmware(VmId),
    /// What a machine's TPM keeps.
    Tpm(VmId),
}

impl Content {
    /// What it is.
    #[must_use]
    pub fn kind(self) -> ForeignKind {
        match self {
            Self::Image(_) => ForeignKind::Image,
            Self::Volume(..) => ForeignKind::Volume,
            Self::Firmware(_) => ForeignKind::Firmware,
            Self::Tpm(_) => ForeignKind::Tpm,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(id) => write!(f, "images/{id}"),
            Self::Volume(id, ImageFormat::Raw) => write!(f, "volumes/{id}.raw"),
            Self::Volume(id, ImageFormat::Qcow2) => write!(f, "volumes/{id}.qcow2"),
            Self::Firmware(id) => write!(f, "firmware/{id}.fd"),
            Self::Tpm(id) => write!(f, "firmware/{id}.tpm"),
        }
    }
}

/// The text names nothing that could be in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a file as the pool tells its foreign ones, e.g. `volumes/<id>.qcow2`")]
pub struct NotContent;

impl FromStr for Content {
    type Err = NotContent;

    fn from_str(text: &str) -> Result<Self, NotContent> {
        let (dir, name) = text.split_once('/').ok_or(NotContent)?;
        let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
        let id = stem.parse().map_err(|_| NotContent)?;
        let found = match (dir, end) {
            ("images", "") => Self::Image(ImageId(id)),
            ("volumes", "raw") => Self::Volume(VolumeId(id), ImageFormat::Raw),
            ("volumes", "qcow2") => Self::Volume(VolumeId(id), ImageFormat::Qcow2),
            ("firmware", "fd") => Self::Firmware(VmId(id)),
            ("firmware", "tpm") => Self::Tpm(VmId(id)),
            _ => return Err(NotContent),
        };
        // Only as we write it: an id has other spellings.
        Some(found).filter(|f| f.to_string() == text).ok_or(NotContent)
    }
}

/// What an adopted file is to be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examine {
    /// A volume, which names its format.
    Volume(VolumeId, ImageFormat),
    /// An image, of which the caller says what it is.
    Image(ImageId, ImageKind, ImageFormat),
}

/// What was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// A volume of this size, a clone of this image.
    Volume {
        /// Size of the disk.
        size: Bytes,
        /// What it is a clone of.
        source: Option<ImageId>,
    },
    /// An image.
    Image(ImageFacts),
}

/// The image that a clone of ours names as its backing file.
pub(super) fn backing_image(name: &str) -> Result<ImageId, Error> {
    let id = name.strip_prefix("../").and_then(|n| n.parse().ok());
    match id {
        Some(Content::Image(id)) => Ok(id),
        _ => Err(Error::BadContent(format!("the volume is based on `{name}`, which is no image of a pool"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let id = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a";
        for name in ["images/I", "volumes/I.raw", "volumes/I.qcow2", "firmware/I.fd", "firmware/I.tpm"] {
            let name = name.replace('I', id);
            assert_eq!(name.parse::<Content>().unwrap().to_string(), name);
        }
        for bad in [
            "I",
            "images/I.raw",
            "images/../I",
            "volumes/I",
            "volumes/I.vmdk",
            "tmp/I",
            "/images/I",
            "firmware/I.part",
        ] {
            assert_eq!(bad.replace('I', id).parse::<Content>(), Err(NotContent), "{bad}");
        }
        assert!(format!("images/{}", id.to_uppercase()).parse::<Content>().is_err());
        assert!(backing_image(&format!("../images/{id}")).is_ok());
        assert!(backing_image("/etc/shadow").is_err() && backing_image("../../x").is_err());
    }
}
