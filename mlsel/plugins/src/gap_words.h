// The words of a descriptor's line in a GAP file.
#ifndef MLSEL_GAP_WORDS_H
#define MLSEL_GAP_WORDS_H

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gap_file.h"

namespace mlsel {

std::vector<std::string> words(std::string_view text);

/// key=value pairs, where a value may be {several words}; words without a = have no value.
std::vector<std::pair<std::string, std::string>> options(const std::string &line);

/// The words of a line after its first, and which of them somebody has asked for. All that read one
/// throw NotCovered with the reason.
class Words {
 public:
  Words(const std::string &path, const std::string &line);
  bool has(const char *name) const { return given_.count(name); }

  /// Nothing else may be there: it could mean another potential.
  void end() const;
  const std::string *find(const char *name);
  double real(const char *name, double otherwise);
  int whole(const char *name);
  bool flag(const char *name, bool otherwise);
  void must(const char *name, const char *value);

  /// Atomic numbers, `n` of them, or ANY_ELEMENT; none given: all are that.
  std::vector<int> elements(const char *name, int n);
  int element(const char *name) { return elements(name, 1).front(); }

  /// Numbers in a range, one for each of n species, or one for all of them.
  std::vector<double> reals(const char *name, int n, double least, double most, double otherwise);

  /// Elements of which none is there twice, and a wild card alone.
  std::vector<int> different_elements(const char *name, int n);
  void read_cutoff(GapTerm &term);

 private:
  std::string path_;
  std::map<std::string, std::string> given_;
  std::set<std::string> seen_;
};

}    // namespace mlsel
#endif
