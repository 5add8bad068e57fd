//! Volumes: the disks of virtual machines. Thin, growable.

use crate::{
    Bytes, ImageId, Metadata, PoolId, VmId, VolumeId,
    image::ImageFormat,
    meta::{check_labels, check_name},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Volume {
    /// Identity.
    pub meta: Metadata<VolumeId>,
    /// What is wanted.
    pub spec: VolumeSpec,
    /// What is.
    pub status: VolumeStatus,
}

/// The wanted volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Size the guest sees: 1 MiB to 64 TiB, a multiple of 512. Absent at creation: the source image's. Can grow, never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<Bytes>,
    /// Pool it is kept in; the default pool where absent at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    /// Format on the pool.
    #[serde(default = "qcow2")]
    pub format: ImageFormat,
    /// Image it begins as a clone of (by reference; the format must be `qcow2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageId>,
}

fn qcow2() -> ImageFormat {
    ImageFormat::Qcow2
}

/// The observed volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeStatus {
    /// Where it is in its life.
    pub state: VolumeState,
    /// Why it is in error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Size the guest sees.
    #[serde(default)]
    pub size_bytes: Bytes,
    /// The machine it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_to: Option<VmId>,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Being made on the pool.
    Creating,
    /// Usable.
    Ready,
    /// Being removed from the pool.
    Deleting,
    /// Not usable; `reason` says why.
    Failed,
}

/// Creates a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name, unique among volumes.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: VolumeSpec,
}

/// `POST /volumes/{id}/grow`. Only while no running machine uses the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GrowVolume {
    /// New size; at least the present one.
    pub size_bytes: Bytes,
}

/// Smallest and largest volume.
pub const SIZE_RANGE: std::ops::RangeInclusive<u64> = Bytes::MIB..=64 * 1024 * Bytes::GIB;

/// Checks a volume's size.
pub fn check_size(field: &str, size: Bytes) -> Option<FieldError> {
    if !SIZE_RANGE.contains(&size.get()) {
        Some(FieldError::new(field, format!("{size} is not between 1 MiB and 64 TiB")))
    } else if !size.get().is_multiple_of(512) {
        Some(FieldError::new(field, format!("{} is not a multiple of 512", size.get())))
    } else {
        None
    }
}

impl CreateVolume {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(check_labels("labels", &self.labels));
        match (self.spec.size_bytes, self.spec.source) {
            (Some(size), _) => errors.extend(check_size("spec.size_bytes", size)),
            (None, None) => {
                errors.push(FieldError::new("spec.size_bytes", "is needed where there is no source image"))
            }
            (None, Some(_)) => {}
        }
        if self.spec.source.is_some() && self.spec.format != ImageFormat::Qcow2 {
            errors.push(FieldError::new("spec.format", "a clone of an image has the format `qcow2`"));
        }
        errors
    }
}
