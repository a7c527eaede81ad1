"""Scoring detector and SAM combinations under published protocols. Start at `evaluate.py`.

protocols    the rules            annotations  the truth, indexed once     predictions  results files and records
prompts      boxes, clicks        clicks       RITM's simulated user       evaluate     the loop over images and models
miou         mask and boundary    boundary     the band along an outline   detection    COCO's and LVIS's numbers
matching     who found what       breakdown    what went wrong             bootstrap    is the difference real?
stamp        how a score was made matrix       tables                      report       the page people look at
sginw, bsds, saliency             data sets with a form of their own
"""
