//! Network interfaces: the number of a name, for the scope of an IPv6 address.

pub(crate) use platform::index_of;

#[cfg(unix)]
mod platform {
    use std::ffi::CString;
    use std::io;

    /// The index of the interface called `name`.
    pub(crate) fn index_of(name: &str) -> io::Result<u32> {
        let text = CString::new(name)?;
        // SAFETY: `text` is a NUL-terminated string that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
        if index == 0 {
            let source = io::Error::last_os_error();
            let message = format!("no network interface \"{name}\": {source}");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
        Ok(index)
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    /// The index of the interface called `name`: not known here.
    pub(crate) fn index_of(name: &str) -> io::Result<u32> {
        let what = format!("the name of an interface: write the number of \"{name}\"");
        Err(crate::sys::unsupported(&what))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_a_number_and_an_unknown_one_an_error_with_its_name() {
        assert!(index_of("lo").unwrap() > 0);
        let error = index_of("no-such-iface").unwrap_err();
        assert!(error.to_string().contains("no-such-iface"), "{error}");
        assert!(index_of("nul\0inside").is_err());
    }
}
