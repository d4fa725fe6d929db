// Reading a QUIP potential's XML file far enough to refuse what QUIP would end the process at.
#ifndef MLSEL_QUIP_FILE_H
#define MLSEL_QUIP_FILE_H

#include <set>
#include <string>
#include <vector>

namespace mlsel {

struct QuipFile {
  std::vector<std::string> labels;    // of <Potential label="…">, in the file's order
  std::set<int> species;              // atomic numbers that the file names; empty: it names none
};

/// Read and check the file, and the files of sparse points that it names beside it.
/// Throws std::runtime_error with a sentence.
QuipFile read_quip_file(const std::string &path);

/// The init string for QUIP: the user's, or one with the label that stands in the file.
std::string quip_init_string(const QuipFile &file, const std::string &path,
                             const std::string &given);

}    // namespace mlsel
#endif
