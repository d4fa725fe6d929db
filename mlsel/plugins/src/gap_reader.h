// From the XML elements of a file to one of our GAPs.
#ifndef MLSEL_GAP_READER_H
#define MLSEL_GAP_READER_H

#include <string>
#include <string_view>
#include <vector>

#include "gap_file.h"
#include "xml_reader.h"

namespace mlsel {

/// Throws NotCovered with the reason, as words that follow the file's name, and std::runtime_error
/// where the file is damaged.
class GapReader : public XmlHandler {
 public:
  explicit GapReader(const std::string &path) : path_(path) {}

  void opened(const std::string &tag, const Attributes &attributes) override;
  void text(const std::string &tag, std::string_view words) override;
  void closed(const std::string &tag) override;

  /// After the last element.
  GapFile finish();
  const std::string &label() const { return label_; }

 private:
  bool holds_numbers(const std::string &tag) const
  {
    return (tag == "sparseX" && !is_sliced_ && !is_separate_) || tag == "sparseX_slice";
  }
  void open_coordinates(const Attributes &attributes);
  void open_point(const Attributes &attributes);
  void read_points_beside(const Attributes &attributes);
  void read_numbers(std::string_view words);
  void close_coordinates();
  void close_soap(bool is_turbo);
  void close_pair();
  void close_triplet();
  void start_points();
  void take_points(GapTerm &term);
  void check_points() const;
  void check_turbo_bases() const;
  void check_dimensions(long expected) const;
  void read_permutations(TripletTerm &term) const;
  std::vector<double> widths(size_t n) const;
  size_t n_terms() const { return file_.soaps.size() + file_.pairs.size() + file_.triplets.size(); }

  const std::string path_;
  std::string label_;    // of <GAP_params>
  GapFile file_;
  GapTerm term_;    // of the coordinates that are open
  std::string theta_, descriptor_, permutations_;
  std::vector<bool> has_alpha_;
  bool is_ours_ = false, is_in_coordinates_ = false, is_sliced_ = false, is_separate_ = false;
  long version_ = 0, n_seen_ = 0, at_ = 0, end_ = 0, n_dimensions_ = 0;
  size_t point_ = 0;
  int n_coordinate_ = 0, n_permutations_ = 0, covariance_ = 0;
  double zeta_ = 0;
};

}    // namespace mlsel
#endif
