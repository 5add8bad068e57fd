//! Images: what volumes are cloned from and machines boot with. Stored once, cloned by reference.

use crate::{
    Bytes, ImageId, Metadata, PoolId, VmId,
    meta::{check_labels, check_name},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Image {
    /// Identity.
    pub meta: Metadata<ImageId>,
    /// What it was declared to be.
    pub spec: ImageSpec,
    /// What it is.
    pub status: ImageStatus,
}

/// The declared image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// What the bytes are for.
    pub kind: ImageKind,
    /// Format of the bytes. Never guessed.
    pub format: ImageFormat,
    /// Pool it is kept in; the default pool where absent at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolId>,
    /// SHA-256 the upload must have, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What a machine boots when its first disk is a clone of this image and it names no boot of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<crate::vm::Boot>,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Contents of a disk.
    Disk,
    /// A Linux kernel: bzImage, or ELF with a PVH entry.
    Kernel,
    /// An initial RAM disk.
    Initrd,
    /// What goes into a CD drive: ISO 9660 or UDF.
    Iso,
}

impl ImageKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Iso => "iso",
        }
    }
}

/// Format of an image's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// Byte for byte.
    Raw,
    /// QEMU copy-on-write, version 2 or 3, without backing file, encryption or external data.
    Qcow2,
}

/// The observed image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageStatus {
    /// Where it is in its life.
    pub state: ImageState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes stored.
    #[serde(default)]
    pub size_bytes: Bytes,
    /// Size a disk cloned from it has at least.
    #[serde(default)]
    pub virtual_size_bytes: Bytes,
    /// SHA-256 of the stored bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Where an image is in its life: `Pending` → `Uploading` → `Ready`; a failed upload returns to `Pending` with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// Declared; its content has not been uploaded.
    Pending,
    /// The content is being received.
    Uploading,
    /// Usable.
    Ready,
}

/// Declares an image; its content follows by `PUT /images/{id}/content`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateImage {
    /// Its name, unique among images.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it is.
    pub spec: ImageSpec,
}

impl CreateImage {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(check_labels("labels", &self.labels));
        if let Some(sum) = &self.spec.sha256
            && (sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            errors.push(FieldError::new("spec.sha256", "must be 64 hexadecimal digits"));
        }
        if self.spec.kind != ImageKind::Disk {
            if self.spec.format != ImageFormat::Raw {
                errors.push(FieldError::new("spec.format", "a kernel, initrd or iso has the format `raw`"));
            }
            if self.spec.boot.is_some() {
                errors.push(FieldError::new("spec.boot", "only a disk image has boot defaults"));
            }
        }
        errors
    }
}

/// Objects that keep an image from being deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageUsers {
    /// Machines that boot from it, or have it in a CD drive.
    pub vms: Vec<VmId>,
    /// Volumes cloned from it.
    pub volumes: Vec<crate::VolumeId>,
}
