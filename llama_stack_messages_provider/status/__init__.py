"""The status page: what goes on in this process, for administrators."""
