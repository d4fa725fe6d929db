// Files as a whole.
#ifndef MLSEL_FILES_H
#define MLSEL_FILES_H

#include <string>

namespace mlsel {

/// A text on one line and no longer than this: what is too much is cut from its middle.
std::string shortened(std::string text, size_t length);

/// Throws std::runtime_error: the path, and what is wrong with the file.
[[noreturn]] void fail(const std::string &path, const std::string &what);

/// A file that another names, from within its folder.
std::string beside(const std::string &path, const std::string &name);

/// A file's bytes. Throws std::runtime_error with a sentence, also where there are more than the
/// 2³¹ − 1 that MPI sends at once.
std::string read_whole(const std::string &path);

}    // namespace mlsel
#endif
