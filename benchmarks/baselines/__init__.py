"""The programs that rows are held against: each does its row's work without Fanfold, and well."""
