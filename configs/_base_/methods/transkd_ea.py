# TransKD-EA: as Base, with patch embeddings of the teacher's width beside the student's own.
_base_ = './transkd_base.py'

model = dict(objectives=dict(transkd=dict(assistant=dict(type='castkd.EmbeddingAssistant'))))
