"""Documents given by URL, and PDFs."""
