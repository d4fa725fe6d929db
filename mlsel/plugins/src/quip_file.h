// Reading a QUIP potential's XML file far enough to refuse what QUIP would end the process at, or
// evaluate wrongly for LAMMPS.
#ifndef MLSEL_QUIP_FILE_H
#define MLSEL_QUIP_FILE_H

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gap_file.h"

namespace mlsel {

struct QuipFile {
  struct Potential {
    std::string label, init;    // <Potential label="…" init_args="…">
  };
  std::string path;
  std::vector<Potential> potentials;      // in the file's order
  std::vector<std::string> parameters;    // names of the elements that hold some: SW_params
  std::vector<std::string> gaps;          // labels of <GAP_params>
  std::set<int> species;                  // atomic numbers that the file names; empty: for any
  std::string unshared;    // a descriptor that QUIP cannot share out among processes, or empty

  // what we can evaluate ourselves of it, and why not: words that follow the file's name
  std::optional<GapFile> gap;
  std::optional<GlueTerm> core;
  std::string gap_label, core_label, reason, core_reason;
};

/// Read and check the file, and the files of sparse points that it names beside it; as one of our
/// GAPs unless only QUIP's library is wanted. Throws std::runtime_error with a sentence.
QuipFile read_quip_file(const std::string &path, bool library_only = false);

/// The init string for QUIP: the user's, or one with the label that stands in the file. Where the
/// user's takes no part of a sum that the file describes, `left_out` says so.
std::string quip_init_string(const QuipFile &file, const std::string &given, std::string &left_out);

/// What the init string asks for, if it is something that we evaluate ourselves: the file's GAP, or
/// its sum with a core potential. Else `reason` says why not.
std::optional<GapFile> our_part(const QuipFile &file, const std::string &init, std::string &reason);

}    // namespace mlsel
#endif
