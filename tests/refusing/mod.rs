//! A system that refuses: from a call on, one system call fails on this thread and on those that it
//! starts, as in a container's seccomp profile or on a system without it.

/// What is refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// The call's number.
    pub call: libc::c_long,
    /// With this third argument only, of `setsockopt` the option's name. It may be any where not given.
    pub third: Option<libc::c_int>,
}

/// Where a filter finds the low half of the third argument in `seccomp_data`.
const THIRD: usize = std::mem::offset_of!(libc::seccomp_data, args)
    + 16
    + if cfg!(target_endian = "big") { 4 } else { 0 };

impl Refused {
    /// From now on it fails with this error, on this thread and those that it starts.
    #[allow(unsafe_code)]
    pub fn with(self, code: i32) {
        let mut filter = self.filter(code);
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(result, 0);
        // SAFETY: the program points to as many statements as it says, and is read in the call only.
        let result = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    fn filter(self, code: i32) -> Vec<libc::sock_filter> {
        let statement = |code, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32);
        let mut asked = vec![(std::mem::offset_of!(libc::seccomp_data, nr), self.call as u32)];
        asked.extend(self.third.map(|third| (THIRD, third as u32)));
        let mut filter = Vec::new();
        for (at, &(offset, value)) in asked.iter().enumerate() {
            // Whatever differs is allowed, by the last statement.
            let to_the_end = 2 * (asked.len() - at) - 1;
            filter.push(load(offset));
            let jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value);
            filter.push(libc::sock_filter { jf: to_the_end as u8, ..jump });
        }
        filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | code as u32));
        filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
        filter
    }
}
