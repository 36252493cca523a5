"""Reports: tables, files, pages."""
