// From <Glue_params> of a file to a core potential.
#ifndef MLSEL_GLUE_READER_H
#define MLSEL_GLUE_READER_H

#include <string>

#include "gap_file.h"
#include "xml_reader.h"

namespace mlsel {

/// Throws NotCovered with the reason, as words that follow the file's name, and std::runtime_error
/// where the file is damaged.
class GlueReader : public XmlHandler {
 public:
  explicit GlueReader(const std::string &path) : path_(path) {}

  void opened(const std::string &tag, const Attributes &attributes) override;
  void closed(const std::string &tag) override;

  /// After the last element.
  GlueTerm finish();
  const std::string &label() const { return label_; }

 private:
  int kind(const Attributes &attributes, const char *name) const;
  void open_spline(GlueTerm::Spline &spline, const Attributes &attributes, const char *first,
                   const char *last, double otherwise);
  void point(const Attributes &attributes);

  const std::string path_;
  std::string label_;
  int n_found_ = 0, kind_ = -1, other_ = -1;
  bool is_inside_ = false;
  size_t n_points_ = 0;
  GlueTerm::Spline *spline_ = nullptr;    // that is open
  const char *x_ = "", *y_ = "";          // its points' attributes
  GlueTerm term_;
};

}    // namespace mlsel
#endif
