// A descriptor's line in a GAP file.
#ifndef MLSEL_GAP_DESCRIPTOR_H
#define MLSEL_GAP_DESCRIPTOR_H

#include <string>

#include "gap_file.h"

namespace mlsel {

/// A line's first word, soap for instance.
std::string descriptor_name(const std::string &line);

/// The line as a term without its sparse points; `version` is that of GAP which wrote it. All
/// throw NotCovered with the reason.
SoapTerm read_soap(const std::string &path, const std::string &line, long version);
SoapTerm read_turbo(const std::string &path, const std::string &line);
PairTerm read_pair(const std::string &path, const std::string &line, long version);
TripletTerm read_triplet(const std::string &path, const std::string &line, long version);

/// How many atoms a distance_Nb is of.
int descriptor_order(const std::string &path, const std::string &line);

}    // namespace mlsel
#endif
