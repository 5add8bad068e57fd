//! The HTTP client of `/api/v1`.
