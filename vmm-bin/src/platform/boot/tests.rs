//! Boot images: good ones, and every way in which a file is not one.
